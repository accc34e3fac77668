"""A whole night of one channel, brought to another rate in one go."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sleepfm.contract import Resampling


def resample(
    values: NDArray[np.float32], rate: float, target: float, method: Resampling
) -> NDArray[np.float32]:
    """Resample a signal; the first sample keeps its time.

    Parameters
    ----------
    values : ndarray of float32, shape [samples]
        Finite, and for ``polyphase`` best centred: the signal is taken as 0 beyond its ends.
    rate, target : float
        Native and wanted rate, in Hz.
    method : {"polyphase", "fft"}
        soxr at its quality HQ, or one FFT over the whole record, mirrored and padded to a power of
        two, by mne's ``resample``: what the published weights were trained on, some 100 times
        slower and up to half a sample off in time.

    Returns
    -------
    ndarray of float32, shape [about samples * target / rate]
        The signal at ``target`` Hz.
    """
    if rate == target:
        return values
    if method == "fft":
        import mne.filter

        whole: NDArray[np.float64] = mne.filter.resample(
            values.astype(np.float64), target, rate, npad="auto", method="fft", verbose="ERROR"
        )
        return whole.astype(np.float32)
    import soxr

    result: NDArray[np.float32] = soxr.resample(values, rate, target, quality="HQ")
    return result
