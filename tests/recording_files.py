"""Fixture files, written by the libraries that know their formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import time
from pathlib import Path

import edfio
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Signal:
    """One signal to write: values, rate in Hz, unit, and the physical range."""

    values: NDArray[np.float64]
    rate: float
    unit: str = "uV"
    span: tuple[float, float] = (-3276.8, 3276.7)


def noise(seconds: float, rate: float, scale: float = 30.0, seed: int = 0) -> NDArray[np.float64]:
    """White noise, [seconds * rate]."""
    return np.random.default_rng(seed).normal(0, scale, round(seconds * rate))


def write_edf(
    path: Path,
    signals: Mapping[str, Signal],
    annotations: Iterable[tuple[float, float | None, str]] | None = None,
    start: time = time(22, 30, 0),
    bdf: bool = False,
) -> Path:
    """Write an EDF (EDF+C with annotations) or BDF file with records of 1 s."""
    signal_class = edfio.BdfSignal if bdf else edfio.EdfSignal
    parts = [
        signal_class(
            s.values,
            sampling_frequency=s.rate,
            label=label.split("#")[0],
            physical_dimension=s.unit,
            physical_range=s.span,
            digital_range=(-8388608, 8388607) if bdf else (-32768, 32767),
        )
        for label, s in signals.items()
    ]
    notes = None
    if annotations is not None:
        notes = [edfio.EdfAnnotation(*note) for note in annotations]
    file = (edfio.Bdf if bdf else edfio.Edf)(
        parts, starttime=start, annotations=notes, data_record_duration=1 if parts else None
    )
    file.write(path)
    return path


def psg(seconds: float = 90, **units: str) -> dict[str, Signal]:
    """A small polysomnogram with all nine slots, at mixed rates."""
    signals = {
        label: Signal(noise(seconds, 200, seed=i), 200)
        for i, label in enumerate(("C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2", "ECG"))
    }
    signals["Chest"] = Signal(noise(seconds, 25, 0.3, seed=7), 25, "V", (-5, 5))
    signals["SpO2"] = Signal(np.rint(noise(seconds, 3, 1, seed=8)) + 96, 3, "%", (0, 110))
    signals["Abdomen"] = Signal(noise(seconds, 25, 0.3, seed=9), 25, "V", (-5, 5))
    return signals


def stages(labels: str, epoch: float = 30) -> list[tuple[float, float | None, str]]:
    """EDF+ stage annotations, one letter each: W 1 2 3 R ?."""
    words = {"W": "W", "1": "N1", "2": "N2", "3": "N3", "R": "R", "?": "?"}
    return [(i * epoch, epoch, f"Sleep stage {words[c]}") for i, c in enumerate(labels)]
