"""Spectra of prepared clips: the power of each slot in bands."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BANDS: Final = 24
"""Bands from 0.1 Hz to half the sampling rate, of equal width on a logarithmic scale."""
_MAX_CLIPS: Final = 120
"""Maximum number of clips of a recording, spread over the night."""
_LOWEST_HZ: Final = 0.1
_FLOOR: Final = 1e-6
"""Power density (per Hz) that is added to every band. It is about 1 % of a robustly scaled signal's
deviation; below it lies rounding of the number format."""
_BLOCK: Final = 32


def log_band_powers(
    clips: NDArray[Any], rate: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Compute the logarithm of band powers, of clips spread over a recording.

    Parameters
    ----------
    clips : ndarray of float, shape [n, slots, samples]
        Prepared clips.
    rate : int
        Samples per second.

    Returns
    -------
    powers : ndarray of float32, shape [at most 120, slots, BANDS]
        Decimal logarithm of the mean power density (per Hz) of each band, under a Hann window.
    filled : ndarray of bool, shape [at most 120, slots]
        Whether a slot has a sample other than zero.
    """
    rows = np.unique(np.linspace(0, len(clips) - 1, min(len(clips), _MAX_CLIPS)).round())
    rows = rows.astype(np.int64)
    samples = clips.shape[-1]
    window = np.hanning(samples).astype(np.float32)
    edges = np.geomspace(_LOWEST_HZ, rate / 2, BANDS + 1) * samples / rate
    first = np.ceil(edges[:-1] - 1e-9).astype(np.int64)
    last = np.maximum(np.ceil(edges[1:] - 1e-9).astype(np.int64), first + 1)
    powers = np.zeros((len(rows), clips.shape[1], BANDS), np.float32)
    filled = np.zeros(powers.shape[:2], bool)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        x = np.asarray(clips[rows[block]], np.float32)
        filled[block] = x.any(axis=-1)
        density = np.square(np.abs(np.fft.rfft(x * window, axis=-1)))
        density /= rate * float(np.square(window).sum())
        for band, (a, b) in enumerate(zip(first, last, strict=True)):
            powers[block, :, band] = density[..., a:b].mean(axis=-1)
    return np.log10(powers + _FLOOR), filled
