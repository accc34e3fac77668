"""EDF, EDF+ and BDF, read by edfio; samples stay on disk until a channel is asked for.

edfio is given a checked header (:mod:`~sleepfm.recordings.edf_header`), and for samples a file of
that one signal: so a 24-bit file is not loaded whole, which edfio would do; a data record cut short
or a number padded with NULs is no obstacle; nothing about who was recorded reaches it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf_annotations import read_annotations, record_times
from sleepfm.recordings.edf_header import CheckedFile, Stream, check, is_edf, refuse_length
from sleepfm.recordings.recording import Channel, Recording, unique_labels
from sleepfm.recordings.scoring.clock import clock_seconds
from sleepfm.recordings.scoring.vocabulary import Scoring, scoring_from_texts

if TYPE_CHECKING:
    from edfio import BdfSignal, EdfSignal

__all__ = ["is_annotations_only", "is_edf", "read_edf"]

_LARGEST: Final = 1e12


def is_annotations_only(path: Path) -> bool:
    """Whether an EDF+ file holds annotations and no signal, as Sleep-EDF's hypnograms do."""
    try:
        return all(s.is_annotations for s in check(path, []).streams)
    except RecordingError:
        return False


def read_edf(path: Path) -> Recording:
    """Read an EDF, EDF+ or BDF file; signals stay on disk until a channel is read.

    Labels are UTF-8 where all of the file's are, else latin-1. A file that ends early is read as
    far as complete data records go. Gaps of a discontinuous file are NaN: times stay true.

    Raises
    ------
    RecordingError
        If the header is damaged, no data record is complete, data records overlap in time, or the
        recording is longer than ``MAX_HOURS``.
    """
    warnings: list[str] = []
    file = check(path, warnings)
    onsets, annotations = read_annotations(file, warnings)
    places = record_times(file, onsets, warnings)
    span_s = float(places[-1]) + file.record_s
    refuse_length(path, span_s)
    wanted = [s for s in file.streams if not s.is_annotations and s.samples > 0]
    if not wanted and not annotations:
        raise RecordingError(f"{path.name} holds neither a signal nor an annotation.")
    signals = _by_edfio(file, wanted)
    labels = [_printable(s.label) for s in signals]
    kind = "BDF" if file.sample_bytes == 3 else "EDF"
    plus = re.fullmatch(rb"(?:EDF|BDF)(\+[CD])", file.reserved)
    return Recording(
        sources=(path,),
        format=kind + (plus.group(1).decode() if plus else ""),
        duration_s=span_s,
        start_clock_s=_clock(file.start),
        channels=tuple(
            _channel(file, stream, signal, label, places, span_s, warnings)
            for stream, signal, label in zip(wanted, signals, unique_labels(labels), strict=True)
        ),
        scoring=scoring_from_texts(annotations, warnings, markers=True)
        if annotations
        else Scoring(),
        warnings=tuple(warnings),
    )


def _channel(
    file: CheckedFile,
    stream: Stream,
    signal: EdfSignal | BdfSignal,
    label: str,
    places: NDArray[np.float64],
    span_s: float,
    warnings: list[str],
) -> Channel:
    rate = signal.sampling_frequency
    unit = _printable(signal.physical_dimension)
    calibration = _calibration(signal)
    if calibration is None:
        unit = ""
        warnings.append(f"{label}: no valid calibration, so its unit is unknown")
    gain, offset = calibration or (1.0, 0.0)

    def read() -> NDArray[np.float32]:
        try:
            content = file.content(stream)
        except (OSError, ValueError) as error:
            raise RecordingError(
                f"{file.path.name} can no longer be read; it changed since it was opened."
            ) from error
        (whole,) = _by_edfio(file, [stream], content)
        values = whole.digital.astype(np.float32)
        values *= np.float32(gain)
        values += np.float32(offset)
        length = round(span_s * rate)
        if length == values.size:
            return values
        blocks = values.reshape(file.records, stream.samples)
        values = np.full(length, np.nan, np.float32)
        for start, block in zip(np.rint(places * rate).astype(int), blocks, strict=True):
            values[start : start + len(block)] = block[: max(0, length - start)]
        return values

    return Channel(label=label, sample_rate=rate, unit=unit, read=read)


def _by_edfio(
    file: CheckedFile, streams: Sequence[Stream], content: NDArray[np.uint8] | None = None
) -> Sequence[EdfSignal | BdfSignal]:
    """Give these signals to edfio; without content, for what the header says of them."""
    if not streams:
        return ()
    import edfio

    read = edfio.read_bdf if file.sample_bytes == 3 else edfio.read_edf
    texts = b"".join(s.fields["label"] + s.fields["unit"] for s in file.streams)
    try:
        texts.decode("utf-8")
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "latin-1"
    header = file.header(streams, 0 if content is None else file.records)
    if content is not None:
        # Gathered from the disk straight to its place behind the header.
        whole = bytearray(len(header) + content.size)
        whole[: len(header)] = header
        np.frombuffer(whole, np.uint8, offset=len(header)).reshape(content.shape)[:] = content
        given: bytes | memoryview = memoryview(whole)
    else:
        given = header
    signals: Sequence[EdfSignal | BdfSignal] = read(given, header_encoding=encoding).signals
    return signals


def _calibration(signal: EdfSignal | BdfSignal) -> tuple[float, float] | None:
    """Gain and offset from stored to physical values, None where the header gives none."""
    try:
        p0, p1, d0, d1 = *signal.physical_range, *signal.digital_range
    except ValueError:
        return None
    if not all(abs(x) <= _LARGEST for x in (p0, p1, d0, d1)) or p0 == p1 or d0 == d1:
        return None
    gain = (p1 - p0) / (d1 - d0)
    return gain, p0 - d0 * gain


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).strip()


def _clock(start: bytes) -> float | None:
    """Seconds after midnight; None for the mark of an unknown start, 01.01.85 00.00.00."""
    if start == b"01.01.8500.00.00":
        return None
    return clock_seconds(re.sub(r"[^0-9]", ".", start[8:].decode("latin-1").strip()))
