"""Resampling of a whole night of one channel to another rate."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.contract import Resampling

_FLAT: Final = 1.15
"""soxr at quality HQ has a flat pass band up to 1 / 1.1 of the lower Nyquist frequency."""


def resample(
    values: NDArray[np.float32], rate: float, target: float, method: Resampling
) -> NDArray[np.float32]:
    """Resample a signal; the first sample keeps its time.

    Parameters
    ----------
    values : ndarray of float32, shape [samples]
        Finite values. For ``polyphase`` they should be centred, because the signal is assumed to be
        0 beyond its ends.
    rate, target : float
        Native and target sampling rate, in Hz.
    method : {"polyphase", "fft"}
        ``polyphase`` is soxr at quality HQ. ``fft`` is one FFT over the whole record, mirrored and
        padded to a power of two, as in mne's ``resample``. The published weights were trained on
        it; it is off by up to half a sample in time, and about five times slower.

    Returns
    -------
    ndarray of float32, shape [about samples * target / rate]
        The signal at ``target`` Hz; ``values`` itself if the rates are equal.
    """
    if rate == target:
        return values
    if method == "fft":
        return _whole_record(values, target / rate)
    import soxr

    result: NDArray[np.float32] = soxr.resample(values, rate, target, quality="HQ")
    return result


def _whole_record(values: NDArray[np.float32], ratio: float) -> NDArray[np.float32]:
    """Compute ``mne.filter.resample(npad="auto", method="fft")`` to within about 1e-5.

    mne takes the inverse FFT at exactly the new length, which usually has a large prime factor and
    then costs ten times as much as a length without one. Here the inverse FFT has a fast length a
    little above twice the band, and soxr, whose pass band covers the band, resamples to the new
    length.
    """
    import soxr
    from scipy import fft

    count = len(values)
    final = max(round(ratio * count), 1)
    added = 2 ** math.ceil(math.log2(count + 2 * min(count // 8, 100))) - count
    left = added // 2
    old = count + added
    new = max(round(ratio * old), 1)
    cut = round(ratio * left)
    mean = np.float32(values.mean(dtype=np.float64))
    spectrum = fft.rfft(_mirrored(values - mean, left, added - left))
    band = min(old, new)
    spectrum = spectrum[: band // 2 + 1]
    if new > old:
        spectrum[-1] *= 0.5  # the old Nyquist bin stands for two bins of the new spectrum
    if new < old and fft.next_fast_len(new, real=True) == new:
        spectrum[-1] *= 2  # two bins of the old spectrum become the new Nyquist bin
        return _scaled(fft.irfft(spectrum, new), new / old)[cut : cut + final] + mean
    between = fft.next_fast_len(math.ceil(_FLAT * band), real=True)
    dense = _scaled(fft.irfft(spectrum, between), between / old)
    every = 1 if new >= _FLAT * band else 2
    result: NDArray[np.float32] = soxr.resample(dense, between, every * new, quality="HQ")[::every]
    return result[cut : cut + final] + mean


def _scaled(values: NDArray[np.float32], by: float) -> NDArray[np.float32]:
    values *= np.float32(by)
    return values


def _mirrored(values: NDArray[np.float32], left: int, right: int) -> NDArray[np.float32]:
    """Extend the signal by odd reflection at its ends; zero where reflection is too short."""
    limit = len(values) - 1
    before, after = min(left, limit), min(right, limit)
    return np.concatenate(
        [
            np.zeros(left - before, np.float32),
            2 * values[0] - values[before:0:-1],
            values,
            2 * values[-1] - values[limit - 1 :: -1][:after],
            np.zeros(right - after, np.float32),
        ]
    )
