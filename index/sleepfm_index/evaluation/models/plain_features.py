"""Textbook features of the signals of clips, as a baseline for the vectors.

Nothing is learned, and each feature uses one modality. Spectra are computed by scipy, and beats are
detected by XQRS of wfdb.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.simulate.truth import interval_statistics
from sleepfm_index.errors import QueryError

EEG_BANDS_HZ: Final = ((0.3, 1), (1, 4), (4, 8), (8, 12), (12, 16), (16, 25), (25, 45))
BREATHING_HZ: Final = (0.1, 0.6)
BREATHING_SLOTS: Final = ("CHEST", "ABD", "FLOW", "THERM")
_ECTOPIC: Final = 0.2
"""Maximum relative deviation of a normal R-R interval from the running median of nine."""

Floats = NDArray[np.floating[Any]]


def plain_features(slots: Sequence[str], signals: Floats, rate: float) -> Floats:
    """Compute the plain features of the clips of one recording, by the type of modality.

    Parameters
    ----------
    slots : sequence of str
        Names of the slots: with ``ECG``, the features are statistics of R-R intervals; with a belt
        or flow, rate and depth of breathing; otherwise band powers.
    signals : ndarray, shape [n, slots, samples]
        Signals of consecutive clips; zero for empty slots.
    rate : float
        Sampling rate in Hz.

    Returns
    -------
    ndarray of float64, shape [n, 3], [n, 2] or [n, 7]
        Features; missing values are replaced by the recording's median, or by 0.
    """
    breathing = [index for index, slot in enumerate(slots) if slot in BREATHING_SLOTS]
    if "ECG" in slots:
        features = beat_statistics(signals[:, list(slots).index("ECG")], rate)
    elif breathing:
        features = breaths(signals[:, breathing], rate)
    else:
        features = band_powers(signals, rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        median = np.nan_to_num(np.nanmedian(features, axis=0))
    return np.where(np.isfinite(features), features, median)


def describe_plain(slots: Sequence[str]) -> str:
    """Describe the result of :func:`plain_features`.

    Parameters
    ----------
    slots : sequence of str
        Names of the slots of a modality.
    """
    if "ECG" in slots:
        return "log mean, SD and RMSSD of R-R"
    if any(slot in BREATHING_SLOTS for slot in slots):
        return "breaths per second and log depth"
    return f"{len(EEG_BANDS_HZ)} log band powers"


def band_powers(
    signals: Floats, rate: float, bands: Sequence[tuple[float, float]] = EEG_BANDS_HZ
) -> Floats:
    """Compute log band powers by Welch's method, averaged over the filled slots.

    Parameters
    ----------
    signals : ndarray, shape [n, slots, samples]
        Signals of the clips; zero for empty slots.
    rate : float
        Sampling rate in Hz.
    bands : sequence of (float, float)
        Lower and upper limit of each band in Hz.

    Returns
    -------
    ndarray of float64, shape [n, bands]
        Features; NaN for clips without a filled slot.
    """
    f, power, filled = _spectra(signals, rate, int(16 * rate))
    logs = [np.log(power[..., (f >= a) & (f < b)].mean(axis=2) + 1e-9) for a, b in bands]
    return _over_slots(np.stack(logs, axis=2), filled)


def beat_statistics(ecg: Floats, rate: float) -> Floats:
    """Compute log mean, SD and RMSSD of the normal R-R intervals that end in each clip.

    Parameters
    ----------
    ecg : ndarray, shape [n, samples]
        ECG of consecutive clips.
    rate : float
        Sampling rate in Hz.

    Returns
    -------
    ndarray of float64, shape [n, 3]
        Natural logarithms of values in seconds; NaN for clips with fewer than five intervals.
    """
    from scipy.ndimage import median_filter

    beats = detect_beats(ecg.ravel(), rate)
    if len(beats) < 10:
        return np.full((len(ecg), 3), np.nan)
    intervals = np.diff(beats, prepend=np.nan)
    filled_intervals = np.nan_to_num(intervals, nan=float(np.nanmedian(intervals)))
    usual = median_filter(filled_intervals, 9, mode="nearest")
    normal = (
        (intervals > 0.3) & (intervals < 2) & (np.abs(filled_intervals - usual) < _ECTOPIC * usual)
    )
    statistics = interval_statistics(beats, intervals, normal, len(ecg))
    return np.log(np.stack(statistics, axis=1) + 1e-3)


def detect_beats(ecg: Floats, rate: float) -> NDArray[np.float64]:
    """Detect R peaks by XQRS of wfdb; return their times in seconds, float64 [beats].

    Parameters
    ----------
    ecg : ndarray, shape [samples]
        One ECG lead.
    rate : float
        Sampling rate in Hz.

    Raises
    ------
    QueryError
        If wfdb is not installed.
    """
    try:
        from wfdb.processing import xqrs_detect
    except ImportError as error:
        raise QueryError(
            "R-R statistics need wfdb: pip install 'sleepfm-index[wfdb]', or leave the ECG out"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            peaks = xqrs_detect(np.asarray(ecg, np.float64), rate, verbose=False)
        except (ValueError, IndexError, ZeroDivisionError):
            return np.zeros(0)
    return np.asarray(peaks, np.float64) / rate


def breaths(signals: Floats, rate: float) -> Floats:
    """Compute the breathing rate in Hz and the log amplitude of breathing.

    The rate is the highest peak of the spectrum from 0.1 to 0.6 Hz, and the amplitude the square
    root of the power in that band; both are averaged over the filled slots of belts and flow.

    Parameters
    ----------
    signals : ndarray, shape [n, slots, samples]
        Signals of the clips; zero for empty slots.
    rate : float
        Sampling rate in Hz.

    Returns
    -------
    ndarray of float64, shape [n, 2]
        Features; NaN for clips without a filled slot.
    """
    f, power, filled = _spectra(signals, rate, signals.shape[2])
    low, high = BREATHING_HZ
    inside = (f >= low) & (f <= high)
    band = power[..., inside]
    depth = 0.5 * np.log(band.sum(axis=2) * (f[1] - f[0]) + 1e-9)
    return _over_slots(np.stack([f[inside][band.argmax(axis=2)], depth], axis=2), filled)


def _spectra(
    signals: Floats, rate: float, window: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Frequencies, power densities [n, slots, frequencies], and mask of filled slots [n, slots]."""
    from scipy.signal import welch

    filled = np.abs(signals).max(axis=2) > 0
    samples = signals.shape[2]
    padding = {"nfft": 4 * samples} if window >= samples else {}
    f, power = welch(
        np.asarray(signals, np.float64), rate, nperseg=min(window, samples), axis=2, **padding
    )
    return f, power, filled


def _over_slots(values: Floats, filled: NDArray[np.bool_]) -> Floats:
    """Mean of [n, slots, features] over the filled slots; NaN if there is none."""
    count = filled.sum(axis=1)[:, None]
    total = np.where(filled[..., None], values, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
