"""Annotations of EDF+ and BDF+ files, and start times of their data records.

edfio (0.4.18) is not used, for three reasons: its pattern for annotations takes minutes on a
damaged data record (175 s for 64 KiB of digits); one such record makes all annotations unreadable,
and its content is shown in the error; and edfio does not give the times of data records, which are
needed to preserve gaps.

Source: Kemp and Olivan, EDF+ (2003), https://www.edfplus.info/specs/edfplus.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf_file import CheckedFile, Stream
from sleepfm.recordings.scoring.vocabulary import Annotation

_GAP_S: Final = 1e-3
_OVERLAP_S: Final = 0.02
"""Tolerated overlap of data records, from drift between the clock and the samples of a device."""
_MAX_DIGITS: Final = 64
_MAX_BYTES: Final = 1 << 30
"""Bytes of annotations in a file: 4,000 for every second of the longest recording."""
_BLOCK: Final = 1 << 24


@dataclass(frozen=True)
class EdfAnnotations:
    """Content of the annotation signals of a file.

    Parameters
    ----------
    onsets : list of float or None
        Start of each data record in seconds, as written; None where it is missing.
    annotations : tuple of Annotation
        Annotations sorted by onset, relative to the first data record.
    zero_s : float
        Onset of the first data record, in seconds after the time in the header.
    unreadable : int
        Number of entries that are not valid annotations.
    """

    onsets: list[float | None]
    annotations: tuple[Annotation, ...]
    zero_s: float
    unreadable: int


def read_annotations(file: CheckedFile, warnings: list[str]) -> EdfAnnotations:
    """Read the annotation signals of a file, and count unreadable entries.

    Parameters
    ----------
    file : CheckedFile
        File whose header has been checked.
    warnings : list of str
        Warnings for the user are appended here.

    Returns
    -------
    EdfAnnotations
        Annotations and start times of data records.

    Raises
    ------
    RecordingError
        If the annotation signals are larger than those of any recording.
    """
    onsets: list[float | None] = []
    parsed: list[Annotation] = []
    unreadable = 0
    streams = [s for s in file.streams if s.is_annotations and s.samples > 0]
    size = sum(s.samples for s in streams) * file.sample_bytes * file.records
    if size > _MAX_BYTES:
        raise RecordingError(
            f"{file.path.name} claims to hold {size / 1e9:.3g} GB of annotations; was it "
            "downloaded whole?"
        )
    for number, stream in enumerate(streams):
        for record in _data_records(file, stream):
            entries = record.rstrip(b"\0").split(b"\0")
            tals = [tal for piece in entries if piece and (tal := _tal(piece))]
            unreadable += sum(1 for piece in entries if piece) - len(tals)
            if number == 0:
                onsets.append(tals[0][0] if tals else None)
            for onset, length, texts in tals:
                parsed += [Annotation(onset, length, _text(text)) for text in texts if text.strip()]
    zero_s = next((o for o in onsets if o is not None), 0.0)
    if onsets and any(o is None for o in onsets):
        warnings.append("some data records have no onset")
    annotations = sorted(
        (Annotation(a.onset_s - zero_s, a.duration_s, a.text) for a in parsed),
        key=lambda a: (a.onset_s, a.text),
    )
    return EdfAnnotations(onsets, tuple(annotations), zero_s, unreadable)


def _data_records(file: CheckedFile, stream: Stream) -> Iterator[bytes]:
    """Yield the bytes of a signal in each data record, some megabytes in memory at a time."""
    width = stream.samples * file.sample_bytes
    step = max(1, _BLOCK // width)
    for first in range(0, file.records, step):
        content = file.content(stream, slice(first, first + step)).tobytes()
        yield from (content[at : at + width] for at in range(0, len(content), width))


def _tal(piece: bytes) -> tuple[float, float | None, list[bytes]] | None:
    """Parse onset, duration and texts of a time-stamped annotation list (TAL); None if invalid.

    The specification requires a sign and plain decimals; some files have no sign, decimal commas,
    exponents, or an empty duration.
    """
    head, mark, rest = piece.partition(b"\x14")
    if not mark:
        return None
    first, second, last = head.partition(b"\x15")
    onset = _number(first)
    length = _number(last) if last.strip() else None
    if onset is None or (second and last.strip() and length is None):
        return None
    return onset, length, rest.split(b"\x14")


def _number(raw: bytes) -> float | None:
    if len(raw) > _MAX_DIGITS:
        return None
    try:
        value = float(raw.strip().replace(b",", b".").decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        return None
    return value if math.isfinite(value) else None


def record_times(
    file: CheckedFile, onsets: list[float | None], warnings: list[str]
) -> NDArray[np.float64]:
    """Return the start of each data record, relative to the first.

    Parameters
    ----------
    file : CheckedFile
        File whose header has been checked.
    onsets : list of float or None
        Onset of each data record in seconds, None where it is missing; empty if the file has no
        annotation signal.
    warnings : list of str
        Warnings for the user are appended here.

    Returns
    -------
    ndarray of float64, shape [records]
        Seconds from the start of the first data record.

    Raises
    ------
    RecordingError
        If records overlap by more than the drift of a device clock, or the file consists almost
        entirely of gaps.
    """
    regular: NDArray[np.float64] = np.arange(file.records, dtype=np.float64) * file.record_s
    known = [o for o in onsets if o is not None]
    name = file.path.name
    if file.record_s == 0:
        return np.zeros(1)
    if not onsets or len(known) < len(onsets):
        if file.reserved[3:5] == b"+D":
            raise RecordingError(f"{name} is discontinuous and has no onsets of its data records")
        return regular
    starts: NDArray[np.float64] = np.asarray(known, dtype=np.float64) - known[0]
    steps = np.diff(starts) - file.record_s
    drift = np.abs(starts - regular).max()
    if np.abs(steps).max(initial=0.0) <= _GAP_S and drift <= file.record_s / 2:
        return regular
    overlapping = (steps < -max(_GAP_S, 1e-6 * file.record_s)) & (
        steps >= -min(_OVERLAP_S, 0.05 * file.record_s)
    )
    if overlapping.any():
        warnings.append(
            f"{overlapping.sum()} data records overlap the one before by up to "
            f"{-1000 * steps[overlapping].min():.0f} ms; they are treated as contiguous"
        )
        steps = np.where(overlapping, 0.0, steps)
        starts = np.r_[0.0, np.cumsum(steps + file.record_s)]
    if steps.min() < -max(_GAP_S, 1e-6 * file.record_s):
        if file.reserved[3:5] == b"+C":
            warnings.append(
                "some data records have impossible onsets; they are treated as contiguous, as in "
                "the header"
            )
            return regular
        raise RecordingError(f"{name} has data records that overlap in time")
    gaps = steps[steps > _GAP_S]
    if not len(gaps):
        return regular
    if gaps.sum() > max(3600.0, 9 * file.records * file.record_s):
        raise RecordingError(f"{name} consists almost entirely of gaps; split it into its parts")
    warnings.append(
        f"the recording has {len(gaps)} gap{'s' if len(gaps) != 1 else ''}, "
        f"{gaps.sum():.1f} s in total, without signal"
    )
    return starts


def _text(raw: bytes) -> str:
    """Decode a text as UTF-8 if valid, otherwise latin-1, and remove control characters."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if not text.isprintable():
        text = "".join(c for c in text if c.isprintable())
    return text.strip()
