"""Features that textbooks name, from the signals of clips: what vectors are held against.

Nothing is learned, and no feature sees more than one modality. Spectra are scipy's, beats are those
of wfdb's XQRS detector.
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
"""An interval further than this share from the median of nine is of no normal beat."""

Floats = NDArray[np.floating[Any]]


def plain_features(slots: Sequence[str], signals: Floats, rate: float) -> Floats:
    """Give the plain features of the clips of one recording, by what its modality records.

    Parameters
    ----------
    slots : sequence of str
        Names of the channels: with an ``ECG`` they are statistics of R-R intervals, with a belt or
        a flow the rate and the depth of breathing, else band powers.
    signals : ndarray, shape [n, slots, samples]
        Consecutive clips; zero where a slot is empty.
    rate : float
        Samples per second.

    Returns
    -------
    ndarray of float64, shape [n, 3], [n, 2] or [n, 7]
        What cannot be measured in a clip is the recording's median, or 0 where there is none.
    """
    breathing = [at for at, slot in enumerate(slots) if slot in BREATHING_SLOTS]
    if "ECG" in slots:
        found = beat_statistics(signals[:, list(slots).index("ECG")], rate)
    elif breathing:
        found = breaths(signals[:, breathing], rate)
    else:
        found = band_powers(signals, rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle = np.nan_to_num(np.nanmedian(found, axis=0))
    return np.where(np.isfinite(found), found, middle)


def describe_plain(slots: Sequence[str]) -> str:
    """Name the features that :func:`plain_features` gives.

    Parameters
    ----------
    slots : sequence of str
        Names of the channels of a modality.
    """
    if "ECG" in slots:
        return "log mean, SD and RMSSD of R-R"
    if any(slot in BREATHING_SLOTS for slot in slots):
        return "breaths per second and log depth"
    return f"{len(EEG_BANDS_HZ)} log band powers"


def band_powers(
    signals: Floats, rate: float, bands: Sequence[tuple[float, float]] = EEG_BANDS_HZ
) -> Floats:
    """Give log powers in bands by Welch's method, mean over the slots that are filled.

    Parameters
    ----------
    signals : ndarray, shape [n, slots, samples]
        Zero where a slot is empty.
    rate : float
        Samples per second.
    bands : sequence of (float, float)
        Lower and upper end in Hz.

    Returns
    -------
    ndarray of float64, shape [n, bands]
        NaN in clips without a filled slot.
    """
    f, power, there = _spectra(signals, rate, int(16 * rate))
    logs = [np.log(power[..., (f >= a) & (f < b)].mean(axis=2) + 1e-9) for a, b in bands]
    return _over_slots(np.stack(logs, axis=2), there)


def beat_statistics(ecg: Floats, rate: float) -> Floats:
    """Give log mean, SD and RMSSD of the normal R-R intervals that end in each clip.

    Parameters
    ----------
    ecg : ndarray, shape [n, samples]
        Consecutive clips.
    rate : float
        Samples per second.

    Returns
    -------
    ndarray of float64, shape [n, 3]
        Of seconds; NaN where fewer than five intervals count.
    """
    from scipy.ndimage import median_filter

    at = detect_beats(ecg.ravel(), rate)
    if len(at) < 10:
        return np.full((len(ecg), 3), np.nan)
    intervals = np.diff(at, prepend=np.nan)
    known = np.nan_to_num(intervals, nan=float(np.nanmedian(intervals)))
    usual = median_filter(known, 9, mode="nearest")
    normal = (intervals > 0.3) & (intervals < 2) & (np.abs(known - usual) < _ECTOPIC * usual)
    found = interval_statistics(at, intervals, normal, len(ecg))
    return np.log(np.stack(found, axis=1) + 1e-3)


def detect_beats(ecg: Floats, rate: float) -> NDArray[np.float64]:
    """Give the times of R peaks in seconds, by wfdb's XQRS; none where it finds nothing.

    Parameters
    ----------
    ecg : ndarray, shape [samples]
        One lead.
    rate : float
        Samples per second.

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
            found = xqrs_detect(np.asarray(ecg, np.float64), rate, verbose=False)
        except (ValueError, IndexError, ZeroDivisionError):
            return np.zeros(0)
    return np.asarray(found, np.float64) / rate


def breaths(signals: Floats, rate: float) -> Floats:
    """Give breaths per second, and the log amplitude of breathing.

    The highest peak of the spectrum from 0.1 to 0.6 Hz, and the root of the power there; means over
    the belts and flows that are filled.

    Parameters
    ----------
    signals : ndarray, shape [n, slots, samples]
        Zero where a slot is empty.
    rate : float
        Samples per second.

    Returns
    -------
    ndarray of float64, shape [n, 2]
        NaN in clips without a filled slot.
    """
    f, power, there = _spectra(signals, rate, signals.shape[2])
    low, high = BREATHING_HZ
    inside = (f >= low) & (f <= high)
    band = power[..., inside]
    depth = 0.5 * np.log(band.sum(axis=2) * (f[1] - f[0]) + 1e-9)
    return _over_slots(np.stack([f[inside][band.argmax(axis=2)], depth], axis=2), there)


def _spectra(
    signals: Floats, rate: float, window: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Frequencies, power densities [n, slots, frequencies], and which slots are filled."""
    from scipy.signal import welch

    there = np.abs(signals).max(axis=2) > 0
    samples = signals.shape[2]
    whole = {"nfft": 4 * samples} if window >= samples else {}
    f, power = welch(
        np.asarray(signals, np.float64), rate, nperseg=min(window, samples), axis=2, **whole
    )
    return f, power, there


def _over_slots(values: Floats, there: NDArray[np.bool_]) -> Floats:
    """Mean of [n, slots, features] over the slots that are there, NaN where none is."""
    count = there.sum(axis=1)[:, None]
    total = np.where(there[..., None], values, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
