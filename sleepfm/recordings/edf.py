"""EDF, EDF+ and BDF: the header checked field by field, samples left on disk until asked for.

Sources: Kemp et al., EDF (1992) and EDF+ (2003), https://www.edfplus.info/specs; BDF as written by
BioSemi. The header's patient and recording fields and its date are never decoded.

Reading is done here and not by a library because three things matter at once: a 24-bit file must
not be loaded whole, a gap between data records must stay a gap (readers at hand join the pieces),
and a damaged field must be named without showing what stands in it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import RecordingError
from sleepfm.recordings.annotations import Annotation, Scoring, scoring_from_texts
from sleepfm.recordings.recording import MAX_HOURS, Channel, Recording, unique_labels

_SIGNAL_FIELDS: Final = (
    ("label", 16),
    ("transducer", 80),
    ("unit", 8),
    ("physical minimum", 8),
    ("physical maximum", 8),
    ("digital minimum", 8),
    ("digital maximum", 8),
    ("prefiltering", 80),
    ("samples per record", 8),
    ("reserved", 32),
)
_MAX_SIGNALS: Final = 4096
_GAP_S: Final = 1e-3
_LARGEST: Final = 1e12
_ANNOTATION_LABELS: Final = ("EDF Annotations", "BDF Annotations")
_TAL: Final = re.compile(
    rb"([+-]\d{1,12}(?:\.\d{0,12})?)(?:\x15(\d{1,12}(?:\.\d{0,12})?))?\x14(.*)\x14", re.DOTALL
)


@dataclass(frozen=True)
class _Signal:
    label: str
    unit: str
    gain: float
    offset: float
    samples: int
    first: int

    @property
    def is_annotations(self) -> bool:
        return self.label in _ANNOTATION_LABELS


@dataclass(frozen=True)
class _Header:
    path: Path
    sample_bytes: int
    reserved: str
    clock_s: float | None
    size: int
    records: int
    record_s: float
    signals: tuple[_Signal, ...]

    @property
    def record_bytes(self) -> int:
        return sum(s.samples for s in self.signals) * self.sample_bytes

    def raw(self, signal: _Signal) -> NDArray[np.uint8]:
        """Bytes of one signal, shape ``[records, bytes]``, still on disk."""
        shape = (self.records, self.record_bytes)
        data = np.memmap(self.path, dtype=np.uint8, mode="r", offset=self.size, shape=shape)
        start = signal.first * self.sample_bytes
        return data[:, start : start + signal.samples * self.sample_bytes]

    def samples(self, signal: _Signal) -> NDArray[np.float32]:
        """Physical values of one signal, shape ``[records, samples]``, float32."""
        if self.sample_bytes == 2:
            shape = (self.records, self.record_bytes // 2)
            data = np.memmap(self.path, dtype="<i2", mode="r", offset=self.size, shape=shape)
            values = data[:, signal.first : signal.first + signal.samples].astype(np.float32)
        else:
            triples = self.raw(signal).reshape(self.records, signal.samples, 3)
            high = triples[..., 2].view(np.int8).astype(np.int32)
            values = (high << 16 | triples[..., 1].astype(np.int32) << 8 | triples[..., 0]).astype(
                np.float32
            )
        values *= np.float32(signal.gain)
        values += np.float32(signal.offset)
        return values


def is_edf(start: bytes) -> bool:
    """Whether a file's first eight bytes are those of EDF or BDF."""
    return start[:8].rstrip(b" \0") == b"0" or start[:8] == b"\xffBIOSEMI"


def is_annotations_only(path: Path) -> bool:
    """Whether an EDF+ file holds annotations and no signal, as Sleep-EDF's hypnograms do."""
    try:
        header = _read_header(path, [])
    except RecordingError:
        return False
    return all(s.is_annotations for s in header.signals)


def read_edf(path: Path) -> Recording:
    """Read an EDF, EDF+ or BDF file; signals stay on disk until a channel is read.

    Labels that are UTF-8 are read as such, all others as latin-1. A file that ends early is read as
    far as complete data records go. Gaps of a discontinuous file are NaN: times stay true.

    Raises
    ------
    RecordingError
        If the header is damaged, no data record is complete, data records overlap in time, or the
        recording is longer than ``MAX_HOURS``.
    """
    warnings: list[str] = []
    header = _read_header(path, warnings)
    onsets, annotations = _read_annotations(header, warnings)
    places = _places(header, onsets, warnings)
    span_s = float(places[-1]) + header.record_s if len(places) else 0.0
    _refuse_length(path, span_s)
    wanted = [s for s in header.signals if not s.is_annotations and s.samples > 0]
    if not wanted and not annotations:
        raise RecordingError(f"{path.name} holds neither a signal nor an annotation.")
    kind = "BDF" if header.sample_bytes == 3 else "EDF"
    plus = re.match(r"(EDF|BDF)(\+[CD])", header.reserved)
    return Recording(
        sources=(path,),
        format=kind + (plus.group(2) if plus else ""),
        duration_s=span_s,
        start_clock_s=header.clock_s,
        channels=tuple(
            _channel(header, signal, label, places, span_s)
            for signal, label in zip(wanted, unique_labels(s.label for s in wanted), strict=True)
        ),
        scoring=scoring_from_texts(annotations, warnings, markers=True)
        if annotations
        else Scoring(),
        warnings=tuple(warnings),
    )


def _channel(
    header: _Header, signal: _Signal, label: str, places: NDArray[np.float64], span_s: float
) -> Channel:
    rate = signal.samples / header.record_s

    def read() -> NDArray[np.float32]:
        try:
            values = header.samples(signal)
        except (OSError, ValueError) as error:
            raise RecordingError(
                f"{header.path.name} can no longer be read; it changed since it was opened."
            ) from error
        length = round(span_s * rate)
        if length == values.size:
            return values.reshape(-1)
        whole = np.full(length, np.nan, np.float32)
        for start, block in zip(np.rint(places * rate).astype(int), values, strict=True):
            whole[start : start + len(block)] = block[: max(0, length - start)]
        return whole

    return Channel(label=label, sample_rate=rate, unit=signal.unit, read=read)


def _read_header(path: Path, warnings: list[str]) -> _Header:
    try:
        if path.exists() and not path.is_file():
            raise RecordingError(f"{path.name} is not a file.")
        size = path.stat().st_size
        with path.open("rb") as file:
            main = file.read(256)
            if not is_edf(main):
                raise RecordingError(
                    f"{path.name} is not an EDF or BDF file: it does not begin like one."
                )
            if len(main) < 256:
                raise RecordingError(f"{path.name} ends within its header.")
            count = _integer(path, main[252:256], "number of signals")
            if not 1 <= count <= _MAX_SIGNALS:
                raise RecordingError(f"{path.name} claims to hold {count} signals.")
            fields = file.read(256 * count)
    except OSError as error:
        raise RecordingError(f"{path.name} cannot be opened: {error.strerror}.") from error
    if len(fields) < 256 * count:
        raise RecordingError(f"{path.name} ends within its header.")
    header_bytes = _integer(path, main[184:192], "header size")
    if header_bytes != 256 * (count + 1):
        raise RecordingError(
            f"{path.name} gives a header size that does not fit its {count} signals."
        )
    record_s = _number(path, main[244:252], "data record duration")
    sample_bytes = 3 if main[0] == 0xFF else 2
    signals = _signals(path, fields, count, warnings)
    total = sum(s.samples for s in signals) * sample_bytes
    if total == 0:
        raise RecordingError(f"{path.name} has data records without a single sample.")
    if record_s < 0 or (record_s == 0 and not all(s.is_annotations for s in signals)):
        raise RecordingError(f"{path.name} gives a data record duration that is not positive.")
    claimed = _integer(path, main[236:244], "number of data records")
    present = (size - header_bytes) // total
    _refuse_length(path, record_s * present)
    if present < 1 or claimed == 0:
        raise RecordingError(f"{path.name} holds no complete data record.")
    if claimed < -1:
        raise RecordingError(f"{path.name} gives a negative number of data records.")
    if claimed == -1:
        warnings.append(
            f"the header does not say how long the recording is; {present} data records found"
        )
    elif present < claimed:
        warnings.append(
            f"the file ends early: {present} of {claimed} data records are complete and were read"
        )
    elif size - header_bytes > claimed * total:
        warnings.append(f"bytes after the last of {claimed} data records were ignored")
    return _Header(
        path=path,
        sample_bytes=sample_bytes,
        reserved=_text(main[192:236]),
        clock_s=_clock(main[168:176], main[176:184]),
        size=header_bytes,
        records=present if claimed == -1 else min(present, claimed),
        record_s=record_s,
        signals=signals,
    )


def _signals(path: Path, fields: bytes, count: int, warnings: list[str]) -> tuple[_Signal, ...]:
    columns: dict[str, list[bytes]] = {}
    start = 0
    for name, width in _SIGNAL_FIELDS:
        columns[name] = [fields[start + i * width : start + (i + 1) * width] for i in range(count)]
        start += count * width
    signals = []
    first = 0
    for i in range(count):
        samples = _integer(path, columns["samples per record"][i], f"samples of signal {i + 1}")
        if samples < 0:
            raise RecordingError(f"{path.name} gives signal {i + 1} a negative number of samples.")
        label = _text(columns["label"][i])
        unit = _text(columns["unit"][i])
        gain, offset = 1.0, 0.0
        if label not in _ANNOTATION_LABELS:
            calibration = _calibration(*(columns[name][i] for name, _ in _SIGNAL_FIELDS[3:7]))
            if calibration is None:
                unit = ""
                warnings.append(f"{label}: no valid calibration, so its unit is unknown")
            else:
                gain, offset = calibration
        signals.append(_Signal(label, unit, gain, offset, samples, first))
        first += samples
    return tuple(signals)


def _calibration(
    low: bytes, high: bytes, digital_low: bytes, digital_high: bytes
) -> tuple[float, float] | None:
    """Gain and offset from stored to physical values, None where the header gives none."""
    try:
        p0, p1, d0, d1 = map(_float, (low, high, digital_low, digital_high))
    except ValueError:
        return None
    if not all(abs(x) <= _LARGEST for x in (p0, p1, d0, d1)) or p0 == p1 or d0 == d1:
        return None
    gain = (p1 - p0) / (d1 - d0)
    return gain, p0 - d0 * gain


def _read_annotations(
    header: _Header, warnings: list[str]
) -> tuple[list[float | None], list[Annotation]]:
    """Onset of each data record, and all annotations counted from the first one's onset."""
    onsets: list[float | None] = []
    found: list[Annotation] = []
    streams = [s for s in header.signals if s.is_annotations and s.samples > 0]
    for number, stream in enumerate(streams):
        width = stream.samples * header.sample_bytes
        content = header.raw(stream).tobytes()
        for start in range(0, len(content), width):
            record = content[start : start + width].rstrip(b"\0").split(b"\0")
            tals = [tal for piece in record if (tal := _TAL.fullmatch(piece))]
            if number == 0:
                onsets.append(float(tals[0][1]) if tals else None)
            for i, tal in enumerate(tals):
                texts = tal[3].split(b"\x14")
                if number == 0 and i == 0:
                    texts = texts[1:]  # the first text of a data record is its own time, empty
                length = float(tal[2]) if tal[2] else None
                found += [
                    Annotation(float(tal[1]), length, _text(text)) for text in texts if text.strip()
                ]
    zero = next((o for o in onsets if o is not None), 0.0)
    if onsets and any(o is None for o in onsets):
        warnings.append("some data records carry no time of their own")
    return onsets, sorted(
        (Annotation(a.onset_s - zero, a.duration_s, a.text) for a in found),
        key=lambda a: (a.onset_s, a.text),
    )


def _places(
    header: _Header, onsets: list[float | None], warnings: list[str]
) -> NDArray[np.float64]:
    """Start of each data record in seconds from the first, as the file's own clock has it."""
    regular: NDArray[np.float64] = np.arange(header.records, dtype=np.float64) * header.record_s
    known = [o for o in onsets if o is not None]
    name = header.path.name
    if header.record_s == 0:
        return np.zeros(1)
    if not onsets or len(known) < len(onsets):
        if header.reserved[3:5] == "+D":
            raise RecordingError(
                f"{name} is discontinuous and does not say when its data records start."
            )
        return regular
    places: NDArray[np.float64] = np.asarray(known, dtype=np.float64) - known[0]
    steps = np.diff(places) - header.record_s
    drift = np.abs(places - regular).max()
    if np.abs(steps).max(initial=0.0) <= _GAP_S and drift <= header.record_s / 2:
        return regular
    if steps.min() < -max(_GAP_S, 1e-6 * header.record_s):
        if header.reserved[3:5] == "+C":
            warnings.append(
                "some data records carry impossible times; they follow one another, as the header "
                "says"
            )
            return regular
        raise RecordingError(f"{name} has data records that overlap in time.")
    gaps = steps[steps > _GAP_S]
    if gaps.sum() > max(3600.0, 9 * header.records * header.record_s):
        raise RecordingError(f"{name} is nearly all gaps; split it into its pieces.")
    warnings.append(
        f"the recording has {len(gaps)} gap{'s' if len(gaps) != 1 else ''}, "
        f"{gaps.sum():.1f} s in all, which hold no signal"
    )
    return places


def _refuse_length(path: Path, seconds: float) -> None:
    if seconds > MAX_HOURS * 3600:
        raise RecordingError(
            f"{path.name} claims to last {seconds / 3600:.3g} h; "
            f"recordings of at most {MAX_HOURS} h are read, so split it or check its header."
        )


def _text(raw: bytes) -> str:
    """Text of a field: UTF-8 where it is valid UTF-8, else latin-1; control characters dropped."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if not text.isprintable():
        text = "".join(c for c in text if c.isprintable())
    return text.strip()


def _number(path: Path, raw: bytes, name: str) -> float:
    try:
        value = _float(raw)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RecordingError(f"{path.name} has no number in its header field '{name}'.")
    return value


def _float(raw: bytes) -> float:
    """Parse a number, also where it is padded with NULs or has a decimal comma."""
    return float(raw.strip(b" \0").replace(b",", b"."))


def _integer(path: Path, raw: bytes, name: str) -> int:
    value = _number(path, raw, name)
    if value != int(value):
        raise RecordingError(f"{path.name} has no whole number in its header field '{name}'.")
    return int(value)


def _clock(date: bytes, time: bytes) -> float | None:
    """Seconds after midnight; None for the mark of an unknown start, 01.01.85 00.00.00."""
    match = re.fullmatch(rb"\s*(\d{1,2})\D(\d{1,2})\D(\d{1,2})\s*", time)
    if match is None:
        return None
    hours, minutes, seconds = map(int, match.groups())
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    if hours == minutes == seconds == 0 and date == b"01.01.85":
        return None
    return float(hours * 3600 + minutes * 60 + seconds)
