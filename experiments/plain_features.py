"""Plain features of clips, and linear canonical correlation: what encoders are held against.

No feature sees more than one modality. Rates and spectra are those that textbooks name; nothing is
learned but the linear maps.
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
        Whose signals.
    signals : ndarray, shape [n, slots, samples]
        Zero where a slot is empty.
    rate : int
        Samples per second.

    Returns
    -------
    ndarray of float64, shape [n, features]
        Log powers in bands, averaged over the slots that are filled; for the ECG also statistics
        of R-R intervals and R heights; for respiration the rate of the breaths.
    """
    there = np.abs(signals).max(axis=2) > 0
    x = np.asarray(signals, np.float64)
    slow = _bands(x, there, rate, (*SLOW_BANDS_HZ, *HEART_BANDS_HZ))
    if modality == "bas":
        return np.concatenate([slow, _bands(x, there, rate, EEG_BANDS_HZ)], axis=1)
    if modality == "ecg":
        return np.concatenate([slow, _heart(x[:, 0], rate)], axis=1)
    return np.concatenate([slow, _breaths(x, there, rate)], axis=1)


def _bands(
    x: Floats, there: NDArray[np.bool_], rate: int, bands: tuple[tuple[float, float], ...]
) -> Floats:
    f, power = welch(x, rate, nperseg=min(x.shape[2], 16 * rate), axis=2)
    logs = [np.log(power[..., (f >= low) & (f < high)].mean(axis=2) + 1e-9) for low, high in bands]
    stacked = np.stack(logs, axis=2) * there[..., None]
    return stacked.sum(axis=1) / np.maximum(there.sum(axis=1), 1)[:, None]


def _heart(ecg: Floats, rate: int) -> Floats:
    """Statistics of beats; what is missing is the median.

    Mean, SD and RMSSD of R-R, mean and SD of the R height, heart rate as a code of bells, and where
    R-R and R height swing with breathing: their log powers in the slow bands, and the frequency of
    the highest peak as a code.
    """
    out = np.full((len(ecg), 5), np.nan)
    swings = np.zeros((len(ecg), 2 * (len(SLOW_BANDS_HZ) + len(BREATH_CODE_HZ))))
    whole = ecg.ravel()
    peaks = np.round(detect_beats(whole, rate) * rate).astype(int)
    if len(peaks) > 20:
        at = peaks / rate
        rr = np.diff(at, prepend=np.nan)
        usual = median_filter(np.nan_to_num(rr, nan=float(np.nanmedian(rr))), 9, mode="nearest")
        normal = (rr > 0.3) & (rr < 2) & (np.abs(rr - usual) < 0.2 * usual)
        out[:, :3] = np.log(np.stack(interval_statistics(at, rr, normal, len(ecg)), axis=1) + 1e-3)
        owner = (at / CLIP_S).astype(int)
        for clip in range(len(ecg)):
            height = whole[peaks[owner == clip]]
            if len(height) > 3:
                out[clip, 3:] = height.mean(), np.log(height.std() + 1e-3)
        seconds = np.arange(len(ecg) * CLIP_S * GRID_HZ) / GRID_HZ
        quiet = np.where(normal, rr, usual)
        series = [np.interp(seconds, at, v) for v in (quiet, whole[peaks])]
        swings = np.concatenate([_swing(s.reshape(len(ecg), -1)) for s in series], axis=1)
    middle = np.nanmedian(out, axis=0) if np.isfinite(out).any() else np.zeros(5)
    known = np.where(np.isfinite(out), out, np.nan_to_num(middle))
    heart = _code(np.exp(-known[:, 0]), HEART_CODE_HZ)
    return np.concatenate([known, heart, swings], axis=1)


def _swing(series: Floats) -> Floats:
    """Return log powers in the slow bands and the code of the highest peak, of values at 4 Hz."""
    f, power = welch(series, GRID_HZ, nperseg=series.shape[1], nfft=4 * series.shape[1], axis=1)
    bands = [
        np.log(power[:, (f >= low) & (f < high)].mean(axis=1) + 1e-9) for low, high in SLOW_BANDS_HZ
    ]
    inside = (f >= 0.1) & (f <= 0.6)
    return np.column_stack(
        [*bands, _code(f[inside][power[:, inside].argmax(axis=1)], BREATH_CODE_HZ)]
    )


def _code(hz: Floats, centres: Floats) -> Floats:
    """Spread a frequency over bells around some centres, so that a line can read any function."""
    width = np.log(centres[1] / centres[0])
    return np.exp(-0.5 * (np.log(np.maximum(hz, 1e-3)[:, None] / centres) / width) ** 2)


def _breaths(x: Floats, there: NDArray[np.bool_], rate: int) -> Floats:
    """Return the highest spectral peak in 0.1 to 0.6 Hz: frequency, code, height."""
    f, power = welch(x, rate, nperseg=x.shape[2], axis=2, nfft=4 * x.shape[2])
    inside = (f >= 0.1) & (f <= 0.6)
    band = power[..., inside]
    peak = f[inside][band.argmax(axis=2)]
    height = np.log(band.max(axis=2) / (band.mean(axis=2) + 1e-9) + 1e-9)
    codes = _code(peak.ravel(), BREATH_CODE_HZ).reshape(*peak.shape, -1)
    stacked = np.concatenate([peak[..., None], height[..., None], codes], axis=2)
    stacked *= there[..., None]
    return stacked.sum(axis=1) / np.maximum(there.sum(axis=1), 1)[:, None]


class CanonicalCorrelation:
    """Linear canonical correlation between two views (Hotelling 1936; ridge: Vinod 1976).

    Parameters
    ----------
    a, b : ndarray, shape [n, features]
        Standardised; row ``i`` of both belongs to one clip.
    components : int
        How many directions are kept.
    ridge : float
        Added to the diagonal of both covariances, relative to their mean variance.
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
