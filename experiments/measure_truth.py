"""Measure heart beats and breaths in real recordings: a truth file for `pretrain --truth`.

Beats are taken from a .atr file next to the recording if there is one, otherwise from the XQRS
detector of wfdb. Breaths are peaks of belts and airflow between 0.08 and 0.7 Hz, with the median
over sensors. Clips with poor signals have NaN. R-R intervals outside 0.3 to 2 s, and those that
differ from the median of nine neighbours by more than 20 %, are excluded.

    pip install 'sleepfm-index[wfdb]'
    python experiments/measure_truth.py RECORDINGS --out truth.parquet [--channels channels.yaml]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import needs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import butter, find_peaks, resample_poly, sosfiltfilt

from sleepfm.contract import BODY
from sleepfm.errors import SleepFMError
from sleepfm.recordings import RecordingFile, find_recordings, read_recording
from sleepfm.recordings.channels import match_channels
from sleepfm.recordings.recording import Channel
from sleepfm.simulate.truth import interval_statistics
from sleepfm_index.evaluation.models.plain_features import detect_beats
from sleepfm_index.truth import write_truth

try:
    import wfdb
except ImportError:
    sys.exit("measure_truth.py needs wfdb: pip install 'sleepfm-index[wfdb]'")

Floats = NDArray[np.float64]

BREATHING = ("CHEST", "ABD", "FLOW")
BREATH_RATE = 25
CLIP_S = 30
_BEATS = "NLRBAaJSVrFejnE/fQ"
"""WFDB annotation codes of beats."""


def main() -> None:
    """Measure every recording, and write the truth file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--channels", type=Path)
    args = parser.parse_args()
    measured = {}
    for file in find_recordings(args.recordings).recordings:
        try:
            measured[file.stem] = measure(file, args.channels)
        except SleepFMError as error:
            print(f"left out: {file.stem}: {error}")
    write_truth(args.out, measured)
    for name in ("rr_mean_s", "rr_sd_s", "breath_hz", "breath_depth"):
        values = np.concatenate([truth[name] for truth in measured.values()])
        share = np.isfinite(values).mean()
        low, middle, high = np.nanquantile(values, [0.05, 0.5, 0.95])
        print(f"{name:14} known {share:.2f}  5 %, median, 95 %: {low:.3f} {middle:.3f} {high:.3f}")


def measure(file: RecordingFile, channels: Path | None) -> dict[str, NDArray[np.float32]]:
    """Measure one recording; every column has shape [clips]."""
    recording = read_recording(file.path, file.annotations)
    slots = match_channels(recording, BODY, overrides=channels).slots
    by_label = {c.label: c for c in recording.channels}
    clips = int(recording.duration_s / CLIP_S + 1e-6)
    out = {name: np.full(clips, np.nan) for name in ("rr_mean_s", "rr_sd_s", "rr_rmssd_s")}
    beats = beats_of(file, by_label[slots["ECG"].labels[0]]) if "ECG" in slots else np.zeros(0)
    if len(beats) > 20:
        rr = np.diff(beats, prepend=np.nan)
        usual = median_filter(np.nan_to_num(rr, nan=float(np.nanmedian(rr))), 9, mode="nearest")
        normal = (rr > 0.3) & (rr < 2.0) & (np.abs(rr - usual) < 0.2 * usual)
        mean, sd, rmssd = interval_statistics(beats, rr, normal, clips)
        out |= {"rr_mean_s": mean, "rr_sd_s": sd, "rr_rmssd_s": rmssd}
    breaths = [breaths_of(by_label[slots[s].labels[0]], clips) for s in BREATHING if s in slots]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a clip where no sensor is good
        for i, name in enumerate(("breath_hz", "breath_depth", "breath_depth_sd")):
            rows = [b[i] for b in breaths] or [np.full(clips, np.nan)]
            out[name] = np.nanmedian(rows, axis=0)
    return {name: values.astype(np.float32) for name, values in out.items()}


def beats_of(file: RecordingFile, ecg: Channel) -> Floats:
    """Return the times of the beats in seconds."""
    marks = file.path.with_suffix(".atr")
    if marks.exists():
        notes = wfdb.rdann(str(marks.with_suffix("")), "atr")
        beats = [s for s, kind in zip(notes.sample, notes.symbol, strict=True) if kind in _BEATS]
        return np.asarray(beats, np.float64) / ecg.sample_rate
    values = np.nan_to_num(ecg.read().astype(np.float64))
    return detect_beats(values, ecg.sample_rate)


def breaths_of(channel: Channel, clips: int) -> tuple[Floats, Floats, Floats]:
    """Return breathing rate in Hz, and relative depth and its SD, of each clip."""
    values = np.nan_to_num(channel.read().astype(np.float64))
    slow = resample_poly(values - np.median(values), BREATH_RATE, round(channel.sample_rate))
    missing = tuple(np.full(clips, np.nan) for _ in range(3))
    if np.ptp(slow) == 0:
        return missing  # type: ignore[return-value]
    band = butter(2, (0.08, 0.7), "bandpass", fs=BREATH_RATE, output="sos")
    clean = sosfiltfilt(band, slow)
    prominence = 0.3 * float(clean.std())
    peaks, troughs = (
        find_peaks(sign * clean, prominence=prominence, distance=BREATH_RATE)[0] for sign in (1, -1)
    )
    if len(peaks) < 10 or len(troughs) < 10:
        return missing  # type: ignore[return-value]
    before = np.searchsorted(troughs, peaks) - 1
    depth = np.where(before >= 0, clean[peaks] - clean[troughs[np.maximum(before, 0)]], np.nan)
    depth /= np.nanmedian(depth)
    length = np.diff(peaks, prepend=-1) / BREATH_RATE
    good = (length > 1.5) & (length < 12)
    good[0] = False
    rate, size, spread = missing
    for clip in range(clips):
        in_clip = good & (peaks // (CLIP_S * BREATH_RATE) == clip)
        if in_clip.sum() >= 3:
            rate[clip] = 1 / length[in_clip].mean()
            size[clip], spread[clip] = np.nanmean(depth[in_clip]), np.nanstd(depth[in_clip])
    return rate, size, spread


if __name__ == "__main__":
    needs.run(main)
