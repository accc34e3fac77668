"""Recordings in HDF5: the Dreem Open Datasets and BDSP.

DOD has ``signals/eeg/C3_M2`` in uV, with the rate in the attribute ``fs`` of each group. BDSP has
``signals/c3-m2``, one rate for the file (``sampling_rate``) and one unit of voltage
(``unit_voltage``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import AnnotationError, RecordingError
from sleepfm.recordings.named_files import ForeignContentError, check_hdf5
from sleepfm.recordings.recording import MAX_HOURS, Channel, Recording, unique_labels
from sleepfm.recordings.scoring import hdf5 as scoring_hdf5
from sleepfm.recordings.scoring.hypnogram import scoring_from_texts
from sleepfm.recordings.scoring.vocabulary import Scored, Scoring

_MAX_SIGNALS: Final = 4096
_VOLTAGES: Final = ("eeg", "eog", "emg", "ecg", "ekg")


class Hdf5:
    """HDF5 with a group ``signals``."""

    endings: tuple[str, ...] = (".h5", ".hdf5")

    def sniff(self, head: bytes) -> bool:
        """Return False: HDF5 has many uses, so the format is recognised by extension.

        Parameters
        ----------
        head : bytes
            First 256 bytes of the file.

        Returns
        -------
        bool
        """
        return False

    def read(self, path: Path) -> Recording:
        """Read a file.

        Parameters
        ----------
        path : Path
            HDF5 file.

        Returns
        -------
        Recording

        Raises
        ------
        RecordingError
            If the file has no signals in a known layout, or h5py is not installed.
        """
        try:
            import h5py
        except ImportError as error:
            raise RecordingError(
                f"{path.name} needs h5py: pip install 'sleepfm-index[wfdb]'"
            ) from error
        try:
            with h5py.File(path, "r") as file:
                check_hdf5(file)
                signals = _signals(path, file)
        except ForeignContentError as error:
            raise RecordingError(f"{path.name} {error}") from error
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordingError(
                f"{path.name} is not an HDF5 recording with a known layout"
            ) from error
        duration = max(samples / rate for _, samples, rate, _ in signals)
        if duration > MAX_HOURS * 3600:
            raise RecordingError(
                f"{path.name} claims to last {duration / 3600:.3g} h; recordings of at most "
                f"{MAX_HOURS} h are read, so split it or check its header"
            )
        labels = unique_labels(name.rpartition("/")[2] for name, *_ in signals)
        warnings: list[str] = []
        return Recording(
            sources=(path,),
            format="HDF5",
            duration_s=duration,
            start_clock_s=None,
            channels=tuple(
                _channel(path, label, *properties)
                for label, properties in zip(labels, signals, strict=True)
            ),
            scoring=_scoring(path, duration, warnings),
            warnings=tuple(warnings),
        )


def _signals(path: Path, file: Any) -> list[tuple[str, int, float, str]]:
    """Return path in the file, number of samples, rate in Hz and unit of every signal."""
    import h5py

    signals: list[tuple[str, int, float, str]] = []

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or len(signals) >= _MAX_SIGNALS:
            return
        scopes = (item, item.parent, file["signals"], file)
        rate = next(
            (
                float(np.ravel(scope.attrs[k])[0])
                for scope in scopes
                for k in ("fs", "sampling_rate")
                if k in scope.attrs
            ),
            np.nan,
        )
        if not np.isfinite(rate) or rate <= 0:
            raise RecordingError(f"{path.name} gives a sampling rate that is not positive")
        if item.size and item.size == max(item.shape):
            signals.append((f"signals/{name}", int(item.size), rate, _unit(name, scopes)))

    if "signals" in file:
        file["signals"].visititems(visit)
    if not signals:
        raise RecordingError(f"{path.name} has no group 'signals' with a signal")
    return signals


def _unit(name: str, scopes: tuple[Any, ...]) -> str:
    signal_type = name.partition("/")[0].lower()
    written = next(
        (
            scope.attrs[k]
            for scope in scopes
            for k in ("unit", "units", "unit_voltage")
            if k in scope.attrs
        ),
        None,
    )
    if written is not None:
        return written.decode() if isinstance(written, bytes) else str(written)
    # Unit as in the documentation of DOD.
    return "uV" if "/" in name and signal_type in _VOLTAGES else ""


def _channel(path: Path, label: str, dataset: str, samples: int, rate: float, unit: str) -> Channel:
    def read() -> NDArray[np.float32]:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                return np.asarray(file[dataset], dtype=np.float32).reshape(samples)
        except (OSError, KeyError, ValueError) as error:
            raise RecordingError(f"the signals of {path.name} cannot be read") from error

    return Channel(label, rate, unit, read)


def _scoring(path: Path, duration_s: float, warnings: list[str]) -> Scoring:
    try:
        notes = scoring_hdf5.Hdf5().read(path, Scored(duration_s=duration_s))
    except AnnotationError:
        return Scoring()
    return scoring_from_texts(notes.annotations, warnings)
