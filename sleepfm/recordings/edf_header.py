"""Checks of an EDF or BDF header before the file is read.

edfio trusts the header: it allocates arrays by its numbers, and its errors show the content of
fields. Here every number that determines a size is checked and bounded first, and errors name the
field but never its content. A checked header contains only what is needed to read signals; the
fields of patient, recording and date are not passed on.

Source: Kemp et al., EDF (1992), https://www.edfplus.info/specs; BDF as written by BioSemi.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf_file import FIELD_WIDTHS, CheckedFile, Stream
from sleepfm.recordings.recording import MAX_HOURS
from sleepfm.recordings.scoring.clock import DAY_S, clock_seconds, moment_of

_BLANKED: Final = ("transducer", "prefiltering", "reserved")
_TEXTS: Final = ("label", "unit")
_MAX_SIGNALS: Final = 4096
_MAX_COUNT: Final = 10**8
_CLEAN: Final = bytes.maketrans(b"\0,", b" .")


def is_edf(start: bytes) -> bool:
    """Return whether a file begins like EDF or BDF.

    Parameters
    ----------
    start : bytes
        First bytes of the file, at least eight.

    Returns
    -------
    bool
    """
    return start[:8].rstrip(b" \0") == b"0" or start[:8] == b"\xffBIOSEMI"


def check(path: Path, warnings: list[str]) -> CheckedFile:
    """Check the header of a file, and its number of data records against the file size.

    Parameters
    ----------
    path : Path
        EDF or BDF file.
    warnings : list of str
        Warnings for the user are appended here: a truncated file, bytes after the last record.

    Returns
    -------
    CheckedFile
        The checked header.

    Raises
    ------
    RecordingError
        If the header is damaged, or no data record is complete.
    """
    try:
        if path.exists() and not path.is_file():
            raise RecordingError(f"{path.name} is not a file")
        size = path.stat().st_size
        with path.open("rb") as file:
            main = file.read(256)
            if not is_edf(main):
                raise RecordingError(
                    f"{path.name} is not an EDF or BDF file: it has no such header"
                )
            if len(main) < 256:
                raise RecordingError(f"{path.name} ends within its header")
            count = _integer(path, main[252:256], "number of signals")
            if not 1 <= count <= _MAX_SIGNALS:
                raise RecordingError(f"{path.name} claims to hold {count} signals")
            fields = file.read(256 * count)
    except OSError as error:
        raise RecordingError(f"{path.name} cannot be opened: {error.strerror}") from error
    if len(fields) < 256 * count:
        raise RecordingError(f"{path.name} ends within its header")
    header_bytes = _integer(path, main[184:192], "header size")
    if header_bytes != 256 * (count + 1):
        raise RecordingError(
            f"{path.name} gives a header size that does not fit its {count} signals"
        )
    record_s = _number(path, main[244:252], "data record duration")
    sample_bytes = 3 if main[0] == 0xFF else 2
    streams = _streams(path, fields, count)
    total = sum(s.samples for s in streams) * sample_bytes
    if total == 0:
        raise RecordingError(f"{path.name} has data records without a single sample")
    if record_s < 0 or (record_s == 0 and not all(s.is_annotations for s in streams)):
        raise RecordingError(f"{path.name} gives a data record duration that is not positive")
    claimed = _integer(path, main[236:244], "number of data records")
    present = (size - header_bytes) // total
    refuse_length(path, record_s * present)
    if present < 1 or claimed == 0:
        raise RecordingError(f"{path.name} holds no complete data record")
    if claimed < -1:
        raise RecordingError(f"{path.name} gives a negative number of data records")
    if claimed == -1:
        warnings.append(
            f"the header does not give the number of data records; {present} data records found"
        )
    elif present < claimed:
        warnings.append(
            f"the file ends early: {present} of {claimed} data records are complete and were read"
        )
    elif size - header_bytes > claimed * total:
        warnings.append(f"bytes after the last of {claimed} data records were ignored")
    records = present if claimed == -1 else min(present, claimed)
    if records >= _MAX_COUNT:
        raise RecordingError(f"{path.name} holds more data records than the format allows")
    return CheckedFile(
        path=path,
        sample_bytes=sample_bytes,
        reserved=main[192:197],
        start=main[168:184],
        data_offset=header_bytes,
        records=records,
        duration=main[244:252].translate(_CLEAN),
        streams=streams,
    )


def _streams(path: Path, fields: bytes, count: int) -> tuple[Stream, ...]:
    columns: dict[str, list[bytes]] = {}
    start = 0
    for name, width in FIELD_WIDTHS.items():
        columns[name] = [fields[start + i * width : start + (i + 1) * width] for i in range(count)]
        start += count * width
    streams = []
    first = 0
    for i in range(count):
        samples = _integer(path, columns["samples per record"][i], f"samples of signal {i + 1}")
        if not 0 <= samples < _MAX_COUNT:
            raise RecordingError(
                f"{path.name} gives signal {i + 1} an impossible number of samples"
            )
        cleaned = {name: columns[name][i] for name in FIELD_WIDTHS}
        cleaned |= {name: v.translate(_CLEAN) for name, v in cleaned.items() if name not in _TEXTS}
        cleaned |= {name: b" " * FIELD_WIDTHS[name] for name in _BLANKED}
        cleaned["samples per record"] = b"%-8d" % samples
        streams.append(Stream(cleaned, samples, first))
        first += samples
    return tuple(streams)


def start_of(file: CheckedFile, zero_s: float = 0.0) -> tuple[float | None, int | None]:
    """Return time of day and calendar day of the first sample.

    Parameters
    ----------
    file : CheckedFile
        File whose header has been checked.
    zero_s : float
        Onset of the first data record after the time in the header, with its fraction, in seconds.

    Returns
    -------
    clock_s : float or None
        Seconds after midnight; None if invalid, or ``01.01.85 00.00.00`` (unknown start).
    day : int or None
        Calendar day (``date.toordinal``); None if invalid, or 1 January 1985 (date removed). Used
        only to align scoring that has dates; never stored.
    """
    if file.start == b"01.01.8500.00.00":
        return None, None
    text = re.sub(r"[^0-9]", ".", file.start.decode("latin-1"))
    clock = clock_seconds(text[8:].strip("."))
    if clock is None:
        return None, None
    days, clock_s = divmod(clock + zero_s, DAY_S)
    moment = moment_of("22:00:00", text[:8])
    if moment is None or not moment.dates or file.start[:8] == b"01.01.85":
        return clock_s, None
    return clock_s, moment.dates[0] + int(days)


def refuse_length(path: Path, seconds: float) -> None:
    """Refuse a file with an implausible duration, before memory is allocated for it.

    Parameters
    ----------
    path : Path
        The file, for the error message.
    seconds : float
        Duration according to the header, in seconds.

    Raises
    ------
    RecordingError
        If the duration exceeds ``MAX_HOURS``.
    """
    if seconds > MAX_HOURS * 3600:
        raise RecordingError(
            f"{path.name} claims to last {seconds / 3600:.3g} h; "
            f"recordings of at most {MAX_HOURS} h are read, so split it or check its header"
        )


def _number(path: Path, raw: bytes, name: str) -> float:
    try:
        value = float(raw.translate(_CLEAN))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RecordingError(f"{path.name} has no number in its header field '{name}'")
    return value


def _integer(path: Path, raw: bytes, name: str) -> int:
    value = _number(path, raw, name)
    if value != int(value):
        raise RecordingError(f"{path.name} has no whole number in its header field '{name}'")
    return int(value)
