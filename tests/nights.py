"""Small recordings written by edfio, for tests."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Final

import edfio
import numpy as np

from sleepfm.contract import ROBUST

COARSE: Final = replace(ROBUST, name="coarse", sample_rate=32)
"""A contract for tests that train: an eighth of the samples, and of the time."""

MONTAGE = {
    "C3-M2": ("uV", 128, 30.0),
    "O2-M1": ("uV", 128, 25.0),
    "ECG": ("mV", 256, 0.3),
    "CHEST": ("V", 32, 0.1),
    "SaO2": ("%", 4, 1.0),
}


def write_night(
    path: Path,
    seconds: int = 120,
    seed: int = 0,
    labels: tuple[str, ...] = tuple(MONTAGE),
    stages: tuple[str, ...] = ("W", "N1", "N2", "R"),
    events: tuple[tuple[float, float, str], ...] = (),
) -> Path:
    """Write an EDF+ file of noise with a stage every 30 s, and events (onset, duration, name)."""
    rng = np.random.default_rng(seed)
    signals = []
    for label in labels:
        unit, rate, scale = MONTAGE.get(label, ("uV", 64, 1.0))
        x = scale * rng.standard_normal(seconds * rate) + (96.0 if label == "SaO2" else 0.0)
        signals.append(edfio.EdfSignal(x, rate, label=label, physical_dimension=unit))
    notes = [
        edfio.EdfAnnotation(30.0 * i, 30.0, f"Sleep stage {stage}")
        for i, stage in enumerate(stages[: seconds // 30])
    ]
    notes += [edfio.EdfAnnotation(*event) for event in events]
    start = datetime.time(22, 59, 30)
    edfio.Edf(signals, annotations=notes, starttime=start).write(path)
    return path
