"""An EDF or BDF file whose header has been checked: its signals, and the reading of their bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import RecordingError

FIELD_WIDTHS: Final = {
    "label": 16, "transducer": 80, "unit": 8, "physical minimum": 8, "physical maximum": 8,
    "digital minimum": 8, "digital maximum": 8, "prefiltering": 80, "samples per record": 8,
    "reserved": 32,
}  # fmt: skip
"""Width in bytes of each header field that every signal has, in file order."""

_BLOCK: Final = 1 << 22
_APART: Final = 1 << 14
"""Data records of at least this many bytes are read signal by signal, shorter ones in blocks."""
_ANNOTATION_LABELS: Final = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True)
class Stream:
    """One signal of the file: its cleaned header fields, and its position in a data record.

    Parameters
    ----------
    fields : dict of str to bytes
        Header fields by name, padded to their widths.
    samples : int
        Number of samples in each data record.
    first : int
        Position of its first sample in a data record, in samples.
    """

    fields: dict[str, bytes]
    samples: int
    first: int

    @property
    def is_annotations(self) -> bool:
        """Whether the signal contains EDF+ annotations."""
        return self.fields["label"].decode("latin-1").strip() in _ANNOTATION_LABELS


@dataclass(frozen=True)
class CheckedFile:
    """A file with a complete and consistent header; no data have been read.

    Parameters
    ----------
    path : Path
        The file.
    sample_bytes : int
        Bytes per sample: 2 in EDF, 3 in BDF.
    reserved : bytes
        Reserved field of the header, which marks EDF+ and BDF+.
    start : bytes
        Start date and time as in the header, ``dd.mm.yyhh.mm.ss``.
    data_offset : int
        Offset of the first data record, in bytes.
    records : int
        Number of complete data records.
    duration : bytes
        Length of a data record in seconds, as written in the header.
    streams : tuple of Stream
        All signals, annotations included, in file order.
    """

    path: Path
    sample_bytes: int
    reserved: bytes
    start: bytes
    data_offset: int
    records: int
    duration: bytes
    streams: tuple[Stream, ...]

    @property
    def record_s(self) -> float:
        """Length of a data record, in seconds."""
        return float(self.duration)

    def header(self, streams: Sequence[Stream], records: int) -> bytes:
        """Build a header for some of the signals, without identity or date.

        Parameters
        ----------
        streams : sequence of Stream
            Signals to include.
        records : int
            Number of data records.

        Returns
        -------
        bytes
            Header of 256 bytes, and 256 more per signal.
        """
        main = (
            b"0       " if self.sample_bytes == 2 else b"\xffBIOSEMI",
            bytes(160).replace(b"\0", b" "),
            b"01.01.8500.00.00",
            b"%-8d" % (256 * (len(streams) + 1)),
            b" " * 44,
            b"%-8d" % records,
            self.duration,
            b"%-4d" % len(streams),
        )
        return b"".join((*main, *(s.fields[name] for name in FIELD_WIDTHS for s in streams)))

    def blocks(self, stream: Stream, records: slice = slice(None)) -> Iterator[NDArray[np.uint8]]:
        """Read one signal block by block, so that it can be converted while it is in the cache.

        Parameters
        ----------
        stream : Stream
            The signal.
        records : slice
            Data records; all by default.

        Yields
        ------
        ndarray of uint8, shape [records, bytes]
            The next data records, in a buffer that is used again for the next block.

        Raises
        ------
        RecordingError
            If the file cannot be read, or has become shorter.
        """
        first, last, _ = records.indices(self.records)
        width = sum(s.samples for s in self.streams) * self.sample_bytes
        size, start = stream.samples * self.sample_bytes, stream.first * self.sample_bytes
        if last <= first or not size:
            return
        # Not mapped: a mapped file that is cut short while it is read ends the process.
        apart = width >= _APART
        step = max(1, _BLOCK // (size if apart else width))
        buffer = np.empty((min(step, last - first), size if apart else width), np.uint8)
        try:
            with self.path.open("rb", buffering=0) as file:
                for record in range(first, last, step):
                    block, offset = buffer[: last - record], self.data_offset + record * width
                    if apart:
                        for i, part in enumerate(block):
                            _fill(file.fileno(), part.data, offset + i * width + start)
                        yield block
                    else:
                        _fill(file.fileno(), block.data.cast("B"), offset)
                        yield block[:, start : start + size]
        except (OSError, ValueError) as error:
            raise RecordingError(
                f"{self.path.name} can no longer be read; it changed since it was opened"
            ) from error

    def content(self, stream: Stream, records: slice = slice(None)) -> NDArray[np.uint8]:
        """Read the bytes of one signal in some data records.

        Parameters
        ----------
        stream : Stream
            The signal.
        records : slice
            Data records; all by default.

        Returns
        -------
        ndarray of uint8, shape [records, bytes]

        Raises
        ------
        RecordingError
            If the file cannot be read, or has become shorter.
        """
        count = len(range(self.records)[records])
        signal = np.empty((count, stream.samples * self.sample_bytes), np.uint8)
        row = 0
        for block in self.blocks(stream, records):
            signal[row : row + len(block)] = block
            row += len(block)
        return signal


def _fill(file: int, buffer: memoryview, offset: int) -> None:
    """Read as many bytes as fit; some file systems give fewer at a time."""
    while buffer:
        count = os.preadv(file, (buffer,), offset)
        if not count:
            raise ValueError("the file ends early")
        buffer, offset = buffer[count:], offset + count
