"""Annotations of EDF+ and BDF+ files, and when each of their data records starts.

Not by edfio (0.4.18), for three reasons: its pattern for annotations takes minutes for one damaged
data record (64 KiB of digits: 175 s); one such record loses the file's other annotations and is
shown in the error; and it gives no times of data records, without which a gap cannot stay a gap.

Source: Kemp and Olivan, EDF+ (2003), https://www.edfplus.info/specs/edfplus.html
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf_header import CheckedFile
from sleepfm.recordings.scoring.vocabulary import Annotation

_GAP_S: Final = 1e-3
_TAL: Final = re.compile(
    rb"([+-]\d{1,12}(?:\.\d{0,12})?)(?:\x15(\d{1,12}(?:\.\d{0,12})?))?\x14(.*)\x14", re.DOTALL
)


def read_annotations(
    file: CheckedFile, warnings: list[str]
) -> tuple[list[float | None], list[Annotation]]:
    """Onset of each data record, and all annotations counted from the first one's onset."""
    onsets: list[float | None] = []
    found: list[Annotation] = []
    streams = [s for s in file.streams if s.is_annotations and s.samples > 0]
    for number, stream in enumerate(streams):
        width = stream.samples * file.sample_bytes
        content = file.content(stream).tobytes()
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


def record_times(
    file: CheckedFile, onsets: list[float | None], warnings: list[str]
) -> NDArray[np.float64]:
    """Start of each data record in seconds from the first, as the file's own clock has it."""
    regular: NDArray[np.float64] = np.arange(file.records, dtype=np.float64) * file.record_s
    known = [o for o in onsets if o is not None]
    name = file.path.name
    if file.record_s == 0:
        return np.zeros(1)
    if not onsets or len(known) < len(onsets):
        if file.reserved[3:5] == b"+D":
            raise RecordingError(
                f"{name} is discontinuous and does not say when its data records start."
            )
        return regular
    places: NDArray[np.float64] = np.asarray(known, dtype=np.float64) - known[0]
    steps = np.diff(places) - file.record_s
    drift = np.abs(places - regular).max()
    if np.abs(steps).max(initial=0.0) <= _GAP_S and drift <= file.record_s / 2:
        return regular
    if steps.min() < -max(_GAP_S, 1e-6 * file.record_s):
        if file.reserved[3:5] == b"+C":
            warnings.append(
                "some data records carry impossible times; they follow one another, as the header "
                "says"
            )
            return regular
        raise RecordingError(f"{name} has data records that overlap in time.")
    gaps = steps[steps > _GAP_S]
    if gaps.sum() > max(3600.0, 9 * file.records * file.record_s):
        raise RecordingError(f"{name} is nearly all gaps; split it into its pieces.")
    warnings.append(
        f"the recording has {len(gaps)} gap{'s' if len(gaps) != 1 else ''}, "
        f"{gaps.sum():.1f} s in all, which hold no signal"
    )
    return places


def _text(raw: bytes) -> str:
    """Text of a field: UTF-8 where it is valid UTF-8, else latin-1; control characters dropped."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if not text.isprintable():
        text = "".join(c for c in text if c.isprintable())
    return text.strip()
