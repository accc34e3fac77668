"""Hand-crafted features and linear canonical correlation, as baselines for the encoders.

Each feature uses one modality. Rates and spectra are standard ones; only the linear maps are
learned.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import welch

from sleepfm.simulate.truth import interval_statistics
from sleepfm_index.evaluation.models.plain_features import EEG_BANDS_HZ, detect_beats

Floats = NDArray[np.floating]

CLIP_S = 30
SLOW_BANDS_HZ = ((0.05, 0.12), (0.12, 0.2), (0.2, 0.28), (0.28, 0.4), (0.4, 0.7))
HEART_CODE_HZ = np.geomspace(0.7, 2.0, 12)
HEART_BANDS_HZ = (*pairwise(HEART_CODE_HZ), (2.0, 5.0))
BREATH_CODE_HZ = np.geomspace(0.1, 0.6, 10)
GRID_HZ = 4


def features(modality: str, signals: Floats, rate: int) -> Floats:
    """Return the features of the clips of one recording.

    Parameters
    ----------
    modality : str
        Modality of the signals.
    signals : ndarray, shape [n, slots, samples]
        Signals of the clips; an empty slot is zero.
    rate : int
        Samples per second.

    Returns
    -------
    ndarray of float64, shape [n, features]
        Log band powers, averaged over the filled slots; for the ECG also statistics of R-R
        intervals and R amplitudes; for respiration the breathing rate.
    """
    filled = np.abs(signals).max(axis=2) > 0
    values = np.asarray(signals, np.float64)
    slow = _bands(values, filled, rate, (*SLOW_BANDS_HZ, *HEART_BANDS_HZ))
    if modality == "bas":
        return np.concatenate([slow, _bands(values, filled, rate, EEG_BANDS_HZ)], axis=1)
    if modality == "ecg":
        return np.concatenate([slow, _heart(values[:, 0], rate)], axis=1)
    return np.concatenate([slow, _breaths(values, filled, rate)], axis=1)


def _bands(
    x: Floats, filled: NDArray[np.bool_], rate: int, bands: tuple[tuple[float, float], ...]
) -> Floats:
    f, power = welch(x, rate, nperseg=min(x.shape[2], 16 * rate), axis=2)
    logs = [np.log(power[..., (f >= low) & (f < high)].mean(axis=2) + 1e-9) for low, high in bands]
    stacked = np.stack(logs, axis=2) * filled[..., None]
    return stacked.sum(axis=1) / np.maximum(filled.sum(axis=1), 1)[:, None]


def _heart(ecg: Floats, rate: int) -> Floats:
    """Return statistics of beats; missing values are replaced by the median.

    These are mean, SD and RMSSD of R-R, mean and SD of the R amplitude, heart rate over Gaussian
    bins, and the modulation of R-R and R amplitude by breathing: log powers in the slow bands, and
    the frequency of the highest peak over Gaussian bins.
    """
    out = np.full((len(ecg), 5), np.nan)
    modulation = np.zeros((len(ecg), 2 * (len(SLOW_BANDS_HZ) + len(BREATH_CODE_HZ))))
    signal = ecg.ravel()
    peaks = np.round(detect_beats(signal, rate) * rate).astype(int)
    if len(peaks) > 20:
        times_s = peaks / rate
        rr = np.diff(times_s, prepend=np.nan)
        usual = median_filter(np.nan_to_num(rr, nan=float(np.nanmedian(rr))), 9, mode="nearest")
        normal = (rr > 0.3) & (rr < 2) & (np.abs(rr - usual) < 0.2 * usual)
        out[:, :3] = np.log(
            np.stack(interval_statistics(times_s, rr, normal, len(ecg)), axis=1) + 1e-3
        )
        clip_of_beat = (times_s / CLIP_S).astype(int)
        for clip in range(len(ecg)):
            height = signal[peaks[clip_of_beat == clip]]
            if len(height) > 3:
                out[clip, 3:] = height.mean(), np.log(height.std() + 1e-3)
        seconds = np.arange(len(ecg) * CLIP_S * GRID_HZ) / GRID_HZ
        quiet = np.where(normal, rr, usual)
        series = [np.interp(seconds, times_s, v) for v in (quiet, signal[peaks])]
        modulation = np.concatenate([_swing(s.reshape(len(ecg), -1)) for s in series], axis=1)
    middle = np.nanmedian(out, axis=0) if np.isfinite(out).any() else np.zeros(5)
    known = np.where(np.isfinite(out), out, np.nan_to_num(middle))
    heart = _code(np.exp(-known[:, 0]), HEART_CODE_HZ)
    return np.concatenate([known, heart, modulation], axis=1)


def _swing(series: Floats) -> Floats:
    """Return log powers in the slow bands and the encoded peak frequency of series at 4 Hz."""
    f, power = welch(series, GRID_HZ, nperseg=series.shape[1], nfft=4 * series.shape[1], axis=1)
    bands = [
        np.log(power[:, (f >= low) & (f < high)].mean(axis=1) + 1e-9) for low, high in SLOW_BANDS_HZ
    ]
    inside = (f >= 0.1) & (f <= 0.6)
    return np.column_stack(
        [*bands, _code(f[inside][power[:, inside].argmax(axis=1)], BREATH_CODE_HZ)]
    )


def _code(hz: Floats, centres: Floats) -> Floats:
    """Encode a frequency over Gaussian bins, so that a linear map can be any function of it."""
    width = np.log(centres[1] / centres[0])
    return np.exp(-0.5 * (np.log(np.maximum(hz, 1e-3)[:, None] / centres) / width) ** 2)


def _breaths(x: Floats, filled: NDArray[np.bool_], rate: int) -> Floats:
    """Return the highest spectral peak in 0.1 to 0.6 Hz: frequency, code, height."""
    f, power = welch(x, rate, nperseg=x.shape[2], axis=2, nfft=4 * x.shape[2])
    inside = (f >= 0.1) & (f <= 0.6)
    band = power[..., inside]
    peak = f[inside][band.argmax(axis=2)]
    height = np.log(band.max(axis=2) / (band.mean(axis=2) + 1e-9) + 1e-9)
    codes = _code(peak.ravel(), BREATH_CODE_HZ).reshape(*peak.shape, -1)
    stacked = np.concatenate([peak[..., None], height[..., None], codes], axis=2)
    stacked *= filled[..., None]
    return stacked.sum(axis=1) / np.maximum(filled.sum(axis=1), 1)[:, None]


class CanonicalCorrelation:
    """Linear canonical correlation between two views (Hotelling 1936; ridge: Vinod 1976).

    Parameters
    ----------
    a, b : ndarray, shape [n, features]
        Standardised features; row ``i`` of both belongs to the same clip.
    components : int
        Number of directions.
    ridge : float
        Regularisation added to the diagonals of both covariances, relative to the mean variance.
    """

    def __init__(self, a: Floats, b: Floats, components: int = 8, ridge: float = 0.1) -> None:
        covariances = [x.T @ x / len(x) for x in (a, b)]
        for c in covariances:
            c += ridge * np.trace(c) / len(c) * np.eye(len(c))
        roots = [np.linalg.inv(np.linalg.cholesky(c)) for c in covariances]
        u, s, vt = np.linalg.svd(roots[0] @ (a.T @ b / len(a)) @ roots[1].T)
        keep = min(components, len(s))
        self.first = roots[0].T @ u[:, :keep] * s[:keep]
        self.second = roots[1].T @ vt[:keep].T

    def similarity(self, a: Floats, b: Floats) -> Floats:
        """Return the cosine of every row of ``a`` with every row of ``b``."""
        x, y = a @ self.first, b @ self.second
        x, y = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9) for v in (x, y))
        return np.asarray(x @ y.T)
