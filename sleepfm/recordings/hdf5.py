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

_MOST: Final = 4096
_VOLTAGES: Final = ("eeg", "eog", "emg", "ecg", "ekg")


class Hdf5:
    """HDF5 with a group ``signals``."""

    endings: tuple[str, ...] = (".h5", ".hdf5")

    def sniff(self, head: bytes) -> bool:
        """Return False: much else is HDF5, so the file's name decides.

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
            If it has no signals of a known form, or h5py is not installed.
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
                found = _signals(path, file)
        except ForeignContentError as error:
            raise RecordingError(f"{path.name} {error}") from error
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordingError(
                f"{path.name} is not an HDF5 recording with a known layout"
            ) from error
        duration = max(samples / rate for _, samples, rate, _ in found)
        if duration > MAX_HOURS * 3600:
            raise RecordingError(
                f"{path.name} claims to last {duration / 3600:.3g} h; recordings of at most "
                f"{MAX_HOURS} h are read, so split it or check its header"
            )
        labels = unique_labels(place.rpartition("/")[2] for place, *_ in found)
        warnings: list[str] = []
        return Recording(
            sources=(path,),
            format="HDF5",
            duration_s=duration,
            start_clock_s=None,
            channels=tuple(
                _channel(path, label, *about) for label, about in zip(labels, found, strict=True)
            ),
            scoring=_scoring(path, duration, warnings),
            warnings=tuple(warnings),
        )


def _signals(path: Path, file: Any) -> list[tuple[str, int, float, str]]:
    """Place, samples, rate in Hz and unit of every signal."""
    import h5py

    found: list[tuple[str, int, float, str]] = []

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or len(found) >= _MOST:
            return
        where = (item, item.parent, file["signals"], file)
        rate = next(
            (
                float(np.ravel(w.attrs[k])[0])
                for w in where
                for k in ("fs", "sampling_rate")
                if k in w.attrs
            ),
            np.nan,
        )
        if not np.isfinite(rate) or rate <= 0:
            raise RecordingError(f"{path.name} gives a sampling rate that is not positive")
        if item.size and item.size == max(item.shape):
            found.append((f"signals/{name}", int(item.size), rate, _unit(name, where)))

    if "signals" in file:
        file["signals"].visititems(visit)
    if not found:
        raise RecordingError(f"{path.name} has no group 'signals' with a signal")
    return found


def _unit(name: str, where: tuple[Any, ...]) -> str:
    kind = name.partition("/")[0].lower()
    written = next(
        (w.attrs[k] for w in where for k in ("unit", "units", "unit_voltage") if k in w.attrs), None
    )
    if written is not None:
        return written.decode() if isinstance(written, bytes) else str(written)
    return "uV" if "/" in name and kind in _VOLTAGES else ""  # DOD says it in its description


def _channel(path: Path, label: str, place: str, samples: int, rate: float, unit: str) -> Channel:
    def read() -> NDArray[np.float32]:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                return np.asarray(file[place], dtype=np.float32).reshape(samples)
        except (OSError, KeyError, ValueError) as error:
            raise RecordingError(f"the signals of {path.name} cannot be read") from error

    return Channel(label, rate, unit, read)


def _scoring(path: Path, duration_s: float, warnings: list[str]) -> Scoring:
    try:
        notes = scoring_hdf5.Hdf5().read(path, Scored(duration_s=duration_s))
    except AnnotationError:
        return Scoring()
    return scoring_from_texts(notes.annotations, warnings)
