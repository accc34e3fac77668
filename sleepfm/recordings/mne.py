"""Formats supported by mne (.fif, .set, .vhdr, .gdf, .cnt), read one channel at a time."""

from __future__ import annotations

import datetime
import warnings as python_warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import RecordingError
from sleepfm.recordings.mne_guard import check_after_mne, check_before_mne
from sleepfm.recordings.recording import MAX_HOURS, Channel, Recording, unique_labels
from sleepfm.recordings.scoring.hypnogram import scoring_from_texts
from sleepfm.recordings.scoring.vocabulary import Annotation, Scoring

_VOLT: Final = 107  # FIFF_UNIT_V


class Mne:
    """Reader of formats that mne supports."""

    endings: tuple[str, ...] = (".fif", ".fif.gz", ".set", ".vhdr", ".gdf", ".cnt")

    def sniff(self, head: bytes) -> bool:
        """Return False: these formats are recognised by extension.

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
        """Read a file; see :func:`read_mne`.

        Parameters
        ----------
        path : Path
            File of a format that mne reads.

        Returns
        -------
        Recording
        """
        return read_mne(path)


def read_mne(path: Path) -> Recording:
    """Read a file with mne, at the sampling rate of mne.

    mne scales voltages to V. It treats a channel of unknown type as EEG in microvolts (a saturation
    of 98 % becomes 9.8e-5 V); channels whose names are not voltages are scaled back to the values
    in the file, in an unknown unit.

    Parameters
    ----------
    path : Path
        File of a format that mne reads.

    Returns
    -------
    Recording
        The recording, with scoring from the annotations in the file.

    Raises
    ------
    RecordingError
        If mne cannot open the file.
    """
    import mne

    check_before_mne(path)
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            raw: Any = mne.io.read_raw(path, preload=False, verbose="ERROR")
    except Exception as error:  # mne raises many types of exception
        raise RecordingError(f"{path.name} has an unsupported file format") from error
    check_after_mne(path, [Path(f) for f in raw.filenames if f])
    rate = float(raw.info["sfreq"])
    if not 0 < rate < np.inf:
        raise RecordingError(f"{path.name} claims a sampling rate of {rate} Hz")
    duration = len(raw.times) / rate
    if duration > MAX_HOURS * 3600:
        raise RecordingError(
            f"{path.name} claims to last {duration / 3600:.0f} h; "
            f"recordings of at most {MAX_HOURS} h are read"
        )
    start = raw.info["meas_date"]
    if start is not None:  # the first sample of a cropped file
        start += datetime.timedelta(seconds=float(raw.first_time))
    first = raw.first_time if raw.annotations.orig_time is not None else 0.0
    notes = [
        Annotation(
            float(a["onset"]) - first,
            # BrainVision and others write a mark without a duration as one sample
            length if (length := float(a["duration"])) > 1.5 / rate else None,
            str(a["description"]),
        )
        for a in raw.annotations
    ]
    warnings: list[str] = []
    if any("boundary" in n.text.lower() for n in notes):
        warnings.append("the file contains boundaries: parts were joined before it was saved")
    return Recording(
        sources=(path, *dict.fromkeys(Path(f) for f in raw.filenames if f and Path(f) != path)),
        format=type(raw).__name__.removeprefix("Raw"),
        duration_s=duration,
        start_clock_s=None
        if start is None
        else start.hour * 3600 + start.minute * 60 + start.second + start.microsecond / 1e6,
        start_day=None if start is None else start.toordinal(),
        channels=tuple(
            _channel(path, raw, i, label, rate)
            for i, label in enumerate(unique_labels(raw.ch_names))
        ),
        scoring=scoring_from_texts(notes, warnings, markers=True) if notes else Scoring(),
        warnings=tuple(warnings),
    )


def _channel(path: Path, raw: Any, index: int, label: str, rate: float) -> Channel:
    from sleepfm.recordings.channels import is_voltage

    volts = raw.info["chs"][index]["unit"] == _VOLT
    gain = 1.0 if not volts or is_voltage(label) else 1e6

    def read() -> NDArray[np.float32]:
        try:
            values = raw.get_data(picks=[index], verbose="ERROR")[0]
        except Exception as error:
            raise RecordingError(f"the signals of {path.name} cannot be read") from error
        return np.asarray(values * gain, dtype=np.float32)

    return Channel(label, rate, "V" if volts and gain == 1.0 else "", read)
