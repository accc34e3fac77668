"""WFDB records (.hea with .dat or .mat), read with the wfdb package."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import RecordingError
from sleepfm.recordings.recording import MAX_HOURS, Channel, Recording, unique_labels
from sleepfm.recordings.scoring.vocabulary import Scoring

_BYTES: Final = {"8": 1.0, "16": 2.0, "24": 3.0, "32": 4.0, "61": 2.0, "80": 1.0, "160": 2.0,
                 "212": 1.5, "310": 4 / 3, "311": 4 / 3}  # fmt: skip
_MAX_SIGNALS: Final = 4096


class Wfdb:
    """WFDB records."""

    endings: tuple[str, ...] = (".hea",)

    def sniff(self, head: bytes) -> bool:
        """Return False: a header is plain text, so the format is recognised by extension.

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
        """Read a file; see :func:`read_wfdb`.

        Parameters
        ----------
        path : Path
            WFDB header (``.hea``).

        Returns
        -------
        Recording
        """
        return read_wfdb(path)


def read_wfdb(path: Path) -> Recording:
    """Read a WFDB header; signals stay on disk until a channel is read.

    Values are physical, by the gain and baseline in the header. A truncated signal file is read up
    to its end.

    Parameters
    ----------
    path : Path
        WFDB header (``.hea``).

    Returns
    -------
    Recording
        The recording without scoring, which is in separate files.

    Raises
    ------
    RecordingError
        If the header or a signal file is missing, damaged or unsupported (several segments, no
        length), or wfdb is not installed.
    """
    try:
        import wfdb
    except ImportError as error:
        raise RecordingError(
            f"{path.name} needs wfdb: pip install 'sleepfm-index[wfdb]'"
        ) from error
    try:
        with readable(path) as record:
            header: Any = wfdb.rdheader(record)
    except Exception as error:  # wfdb raises many types of exception
        raise RecordingError(f"{path.name} is not a readable WFDB header") from error
    warnings: list[str] = []
    skewed = [
        f"{name} by {skew} samples"
        for name, skew in zip(header.sig_name or (), header.skew or (), strict=False)
        if skew
    ]
    if skewed:
        warnings.append(f"signals have a skew in the header and were shifted: {', '.join(skewed)}")
    rate, frames = _checked(path, header, warnings)
    labels = unique_labels(name or f"signal {i + 1}" for i, name in enumerate(header.sig_name))
    return Recording(
        sources=(path, *(path.with_name(n) for n in dict.fromkeys(header.file_name))),
        format="WFDB",
        duration_s=frames / rate,
        start_clock_s=_clock(header.base_time),
        start_day=None if header.base_date is None else header.base_date.toordinal(),
        channels=tuple(
            _channel(path, i, label, header, rate, frames) for i, label in enumerate(labels)
        ),
        scoring=Scoring(),
        warnings=tuple(warnings),
    )


@contextmanager
def readable(path: Path) -> Iterator[str]:
    """Provide a record that wfdb can read: the file, or a temporary copy without a date.

    wfdb refuses records whose date has a two-digit year (20/7/89).

    Parameters
    ----------
    path : Path
        WFDB header (``.hea``).

    Yields
    ------
    str
        Path of the record without ``.hea``, as expected by wfdb.
    """
    lines = path.read_text(encoding="latin-1").splitlines(keepends=True)
    record_line = next(
        (i for i, x in enumerate(lines) if x.strip() and not x.startswith("#")), None
    )
    words = lines[record_line].split() if record_line is not None else []
    if len(words) < 6 or re.fullmatch(r"\d{1,2}/\d{1,2}/\d{4}", words[5]):
        yield str(path.with_suffix(""))
        return
    assert record_line is not None
    with tempfile.TemporaryDirectory() as folder:
        lines[record_line] = " ".join(words[:5]) + "\n"
        Path(folder, path.name).write_text("".join(lines), encoding="latin-1")
        for other in path.parent.iterdir():
            if other.name != path.name and other.name.startswith(path.stem) and other.is_file():
                Path(folder, other.name).symlink_to(other.absolute())
        yield str(Path(folder, path.stem))


def _channel(path: Path, index: int, label: str, header: Any, rate: float, frames: int) -> Channel:
    skew = int((header.skew or [0] * header.n_sig)[index] or 0)

    def read() -> NDArray[np.float32]:
        import wfdb

        try:
            with readable(path) as record:
                data: Any = wfdb.rdrecord(
                    record,
                    channels=[index],
                    sampto=frames,
                    physical=True,
                    smooth_frames=False,
                    ignore_skew=True,
                )
            values = np.asarray(data.e_p_signal[0], dtype=np.float32)
            if skew:  # the signal is delayed by this many samples in the file
                values[: len(values) - skew] = values[skew:].copy()
                values[max(len(values) - skew, 0) :] = np.nan
        except Exception as error:
            raise RecordingError(f"the signals of {path.name} cannot be read") from error
        return values

    unit = str(header.units[index] or "")
    return Channel(label, rate * int(header.samps_per_frame[index]), unit, read)


def _checked(path: Path, header: Any, warnings: list[str]) -> tuple[float, int]:
    """Check the header; return the frame rate in Hz and the number of available frames."""
    if not hasattr(header, "file_name") or not header.n_sig:
        raise RecordingError(
            f"{path.name} has several segments or no signal, which is not supported"
        )
    if header.n_sig > _MAX_SIGNALS or len(header.sig_name or ()) != header.n_sig:
        raise RecordingError(f"{path.name} does not describe each of its signals")
    rate = float(header.fs or 0)
    if rate != _written_rate(path, rate):  # wfdb assumes 250 Hz if it cannot parse the rate
        rate = math.nan
    if not math.isfinite(rate) or rate <= 0 or min(header.samps_per_frame) < 1:
        raise RecordingError(f"{path.name} gives a sampling rate that is not positive")
    frames = int(header.sig_len or 0)
    if frames <= 0:
        raise RecordingError(f"{path.name} has no length of its signals")
    if frames / rate > MAX_HOURS * 3600:
        raise RecordingError(
            f"{path.name} claims to last {frames / rate / 3600:.0f} h; "
            f"recordings of at most {MAX_HOURS} h are read"
        )
    present = min(_frames_in(path, name, header) for name in set(header.file_name))
    if present < 1:
        raise RecordingError(f"the signal file of {path.name} is empty")
    if present < frames:
        warnings.append(f"the file ends early: {present / rate:.1f} of {frames / rate:.1f} s")
    return rate, min(frames, present)


def _written_rate(path: Path, default: float) -> float:
    """Return the sampling rate on the record line, or ``default`` if it has none."""
    lines = path.read_text(encoding="latin-1").splitlines()
    record = next(line.split() for line in lines if line.strip() and not line.startswith("#"))
    try:
        return float(re.split(r"[/(]", record[2])[0]) if len(record) > 2 else default
    except ValueError:
        return math.nan


def _frames_in(path: Path, name: str, header: Any) -> int:
    """Return the number of complete frames in one signal file."""
    if not name or Path(name).name != name or ":" in name:
        raise RecordingError(f"{path.name} names a signal file outside its own folder")
    file = path.with_name(name)
    if not file.is_file():
        raise RecordingError(f"the signal file {name} of {path.name} is not next to it")
    signals = [i for i, other in enumerate(header.file_name) if other == name]
    width = _BYTES.get(str(header.fmt[signals[0]]))
    if width is None:
        return int(header.sig_len)
    size = file.stat().st_size - int(header.byte_offset[signals[0]] or 0)
    return int(size // (width * sum(int(header.samps_per_frame[i]) for i in signals)))


def _clock(time: Any) -> float | None:
    if time is None:
        return None
    return float(time.hour * 3600 + time.minute * 60 + time.second + time.microsecond / 1e6)
