"""EDF, EDF+ and BDF, read with edfio; samples stay on disk until a channel is read.

edfio receives a checked header (:mod:`~sleepfm.recordings.edf_header`) and, for samples, a file
with a single signal. A 24-bit file is therefore not loaded whole, as edfio would do; truncated data
records and numbers padded with NULs can be read; and edfio sees no patient information.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf_annotations import read_annotations, record_times
from sleepfm.recordings.edf_file import CheckedFile, Stream
from sleepfm.recordings.edf_header import check, is_edf, refuse_length, start_of
from sleepfm.recordings.recording import Channel, Recording, unique_labels
from sleepfm.recordings.scoring.hypnogram import scoring_from_texts
from sleepfm.recordings.scoring.vocabulary import Scoring

if TYPE_CHECKING:
    from edfio import BdfSignal, EdfSignal

__all__ = ["Edf", "is_annotations_only", "is_edf", "read_edf"]

_MAX_CALIBRATION: Final = 1e12


def is_annotations_only(path: Path) -> bool:
    """Return whether an EDF+ file contains annotations but no signal, as Sleep-EDF's hypnograms do.

    Parameters
    ----------
    path : Path
        EDF or BDF file.

    Returns
    -------
    bool
        False also for a file that cannot be read.
    """
    try:
        return all(s.is_annotations for s in check(path, []).streams)
    except RecordingError:
        return False


class Edf:
    """EDF, EDF+, BDF and BDF+."""

    endings: tuple[str, ...] = (".edf", ".rec", ".bdf")

    def sniff(self, head: bytes) -> bool:
        """Return whether the file begins like EDF or BDF.

        Parameters
        ----------
        head : bytes
            First 256 bytes of the file.

        Returns
        -------
        bool
        """
        return is_edf(head)

    def read(self, path: Path) -> Recording:
        """Read a file; see :func:`read_edf`.

        Parameters
        ----------
        path : Path
            EDF or BDF file.

        Returns
        -------
        Recording
        """
        return read_edf(path)


def read_edf(path: Path) -> Recording:
    """Read an EDF, EDF+ or BDF file; signals stay on disk until a channel is read.

    Labels are decoded as UTF-8 if all labels of the file are valid UTF-8, otherwise as latin-1. A
    truncated file is read up to its last complete data record. Gaps of a discontinuous file are
    NaN, so that times are preserved.

    Parameters
    ----------
    path : Path
        EDF or BDF file.

    Returns
    -------
    Recording
        The recording, with scoring from the annotations in the file.

    Raises
    ------
    RecordingError
        If the header is damaged, no data record is complete, data records overlap in time, or the
        recording is longer than ``MAX_HOURS``.
    """
    warnings: list[str] = []
    file = check(path, warnings)
    annotations = read_annotations(file, warnings)
    record_starts = record_times(file, annotations.onsets, warnings)
    span_s = float(record_starts[-1]) + file.record_s
    refuse_length(path, span_s)
    data_streams = [s for s in file.streams if not s.is_annotations and s.samples > 0]
    if not data_streams and not annotations.annotations:
        raise RecordingError(f"{path.name} contains neither a signal nor an annotation")
    signals = _parse(file, data_streams)
    labels = [_printable(s.label) for s in signals]
    scoring = Scoring()
    if annotations.annotations:
        scoring = scoring_from_texts(annotations.annotations, warnings, markers=True)
    if annotations.unreadable:
        dropped = {**scoring.dropped, "unreadable": annotations.unreadable}
        scoring = replace(scoring, dropped=dropped)
    clock, day = start_of(file, annotations.zero_s)
    base_format = "BDF" if file.sample_bytes == 3 else "EDF"
    plus = re.fullmatch(rb"(?:EDF|BDF)(\+[CD])", file.reserved)
    return Recording(
        sources=(path,),
        format=base_format + (plus.group(1).decode() if plus else ""),
        duration_s=span_s,
        start_clock_s=clock,
        start_day=day,
        channels=tuple(
            _channel(file, stream, signal, label, record_starts, span_s, warnings)
            for stream, signal, label in zip(
                data_streams, signals, unique_labels(labels), strict=True
            )
        ),
        scoring=scoring,
        warnings=tuple(warnings),
    )


def _channel(
    file: CheckedFile,
    stream: Stream,
    signal: EdfSignal | BdfSignal,
    label: str,
    record_starts: NDArray[np.float64],
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

    def calibrated(records: slice = slice(None)) -> NDArray[np.float32]:
        if file.sample_bytes == 3:
            (read_back,) = _parse(file, [stream], file.content(stream, records))
            values = read_back.digital.astype(np.float32)
            values *= np.float32(gain)
            values += np.float32(offset)
            return values
        # As edfio, but block by block while a block is in the processor's cache, and without
        # edfio's checks, which are slow for short parts of many channels.
        values = np.empty((len(range(file.records)[records]), stream.samples), np.float32)
        row = 0
        for block in file.blocks(stream, records):
            part = values[row : row + len(block)]
            part[:] = block.view("<i2")
            part *= np.float32(gain)
            part += np.float32(offset)
            row += len(block)
        return values.ravel()

    length = round(span_s * rate)
    contiguous = length == file.records * stream.samples

    def read() -> NDArray[np.float32]:
        values = calibrated()
        if contiguous:
            return values
        blocks = values.reshape(file.records, stream.samples)
        values = np.full(length, np.nan, np.float32)
        # Start is rounded once per contiguous run: per record, slow signals would lose samples.
        after_gap = np.flatnonzero(np.abs(np.diff(record_starts) - file.record_s) > 1e-3) + 1
        for run in np.split(np.arange(file.records), after_gap):
            start = round(float(record_starts[run[0]]) * rate)
            block = blocks[run[0] : run[-1] + 1].ravel()
            values[start : start + len(block)] = block[: max(0, length - start)]
        return values

    def read_part(first: int, last: int) -> NDArray[np.float32]:
        first, last = min(first, length), min(last, length)
        if last <= first:
            return np.empty(0, np.float32)
        start = first // stream.samples
        values = calibrated(slice(start, -(-last // stream.samples)))
        return values[first - start * stream.samples : last - start * stream.samples]

    part = read_part if contiguous else None
    return Channel(label=label, sample_rate=rate, unit=unit, read=read, read_part=part)


def _parse(
    file: CheckedFile, streams: Sequence[Stream], content: NDArray[np.uint8] | None = None
) -> Sequence[EdfSignal | BdfSignal]:
    """Parse signals with edfio; without content, only their header fields."""
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
    header = file.header(streams, 0 if content is None else len(content))
    if content is not None:
        # Samples are copied from disk directly behind the header.
        buffer = bytearray(len(header) + content.size)
        buffer[: len(header)] = header
        np.frombuffer(buffer, np.uint8, offset=len(header)).reshape(content.shape)[:] = content
        source: bytes | memoryview = memoryview(buffer)
    else:
        source = header
    signals: Sequence[EdfSignal | BdfSignal] = read(source, header_encoding=encoding).signals
    return signals


def _calibration(signal: EdfSignal | BdfSignal) -> tuple[float, float] | None:
    """Return gain and offset from stored to physical values; None if the header gives none."""
    try:
        p0, p1, d0, d1 = *signal.physical_range, *signal.digital_range
    except ValueError:
        return None
    if not all(abs(x) <= _MAX_CALIBRATION for x in (p0, p1, d0, d1)) or p0 == p1 or d0 == d1:
        return None
    gain = (p1 - p0) / (d1 - d0)
    return gain, p0 - d0 * gain


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).strip()
