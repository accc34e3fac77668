"""Signal strips of recordings, reduced to the width of the drawing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.modality import SLOT_UNITS
from sleepfm.recordings.recording import Channel, Recording
from sleepfm.recordings.signals import read_signals
from sleepfm.recordings.units import conversion
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.figures.signal_strips import (
    SHOWN_UNITS,
    Slots,
    filled_slots,
    slot_channels,
)
from sleepfm_index.explore.answers import Table
from sleepfm_index.explore.uploads import UploadedFiles
from sleepfm_index.reader import Reader
from sleepfm_index.storage.arrow_columns import numpy_of
from sleepfm_index.storage.private import recording_file

MAX_SECONDS: Final = 3600.0 * 24
"""Maximum length of an interval, in seconds."""
MAX_WIDTH: Final = 8192
"""Maximum width of a strip, in pixels."""
_MAX_OPEN: Final = 64
_MAX_CLIPS: Final = 100
_MAX_RECORDINGS: Final = 100_000
"""Maximum number of recordings whose slots are kept in memory; of more, they are read on demand."""
_VALUES: Final = pa.list_(pa.float32())
_SCHEMA: Final = pa.schema(
    [
        ("clip_id", pa.int64()),
        ("recording_id", pa.string()),
        ("slot", pa.string()),
        ("channel", pa.string()),
        ("unit", pa.string()),
        ("rate_hz", pa.float64()),
        ("from_s", pa.float64()),
        ("step_s", pa.float64()),
        ("low", _VALUES),
        ("high", _VALUES),
    ]
)


@dataclass(frozen=True)
class _Opened:
    """An open recording and the channels of its slots; the second of two is subtracted."""

    recording: Recording
    slots: dict[str, tuple[Channel, ...]]


@dataclass(frozen=True)
class Window:
    """Interval of signals: seconds from the start of the recording, and width in pixels.

    Parameters
    ----------
    from_s : float
        Start, in seconds from the recording's start.
    seconds : float
        Length, in seconds.
    width : int
        Width of the strip, in pixels.
    slots : sequence of str or None
        Slots to draw; None draws all.
    """

    from_s: float
    seconds: float
    width: int
    slots: Sequence[str] | None


class _SlotsOfStore:
    """Slots of all recordings of one snapshot; a statement per click would take most of its time.

    Parameters
    ----------
    store : Reader
        The open store.
    """

    def __init__(self, store: Reader) -> None:
        self.snapshot = _snapshot(store)
        rows = store.metadata.select(
            f"SELECT recording_id, slots FROM recordings LIMIT {_MAX_RECORDINGS + 1}"
        )
        self._complete = rows.num_rows <= _MAX_RECORDINGS
        rows = rows if self._complete else rows.slice(0, 0)
        self._slots = rows["slots"]
        self._row_of = {name: row for row, name in enumerate(rows["recording_id"].to_pylist())}

    def of(self, store: Reader, names: Collection[str]) -> dict[str, Slots]:
        """Slots of recordings by name.

        Parameters
        ----------
        store : Reader
            The open store, at the snapshot of these slots.
        names : collection of str
            Names of recordings in the store.
        """
        if not self._complete:
            return filled_slots(store, names)
        rows = {name: self._row_of[name] for name in names if name in self._row_of}
        return {name: self._slots[row].as_py() for name, row in rows.items()}


class Signals:
    """Open recordings; the least recently used are closed first."""

    def __init__(self) -> None:
        self._opened: OrderedDict[tuple[Any, ...], _Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._slots: _SlotsOfStore | None = None
        self._reading_slots = threading.Lock()

    def slots(self, store: Reader) -> _SlotsOfStore:
        """Read the slots of all recordings, once for a snapshot.

        Parameters
        ----------
        store : Reader
            The open store.
        """
        with self._reading_slots:
            if self._slots is None or self._slots.snapshot != _snapshot(store):
                self._slots = _SlotsOfStore(store)
            return self._slots

    def of_clips(
        self,
        store: Reader,
        ids: Sequence[int],
        seconds: float | None,
        width: int,
        slots: Any,
        before: float = 0.0,
    ) -> Table:
        """Cut signals around the start of clips; one row per clip and slot.

        Parameters
        ----------
        store : Reader
            The open store.
        ids : sequence of int
            Clip ids.
        seconds : float or None
            Length of a strip, in seconds; by default that of a clip.
        width : int
            Width of a strip, in pixels.
        slots : sequence of str or None
            Slots to draw; None draws all.
        before : float
            Where a strip begins, in seconds before the start of its clip; one that would begin
            before the recording is shorter.
        """
        if not 0 <= before <= MAX_SECONDS:
            raise QueryError(f"before must be 0 to {MAX_SECONDS:.0f} seconds")
        if len(ids) > _MAX_CLIPS:
            raise QueryError(f"strips of at most {_MAX_CLIPS} clips at once, got {len(ids)}")
        rows = store.rows(np.array(ids, np.int64)).select(["clip_id", "recording_id", "start_s"])
        length = store.manifest.contract.clip_seconds if seconds is None else seconds
        strips: list[dict[str, Any]] = []
        unavailable: dict[str, str] = {}
        starts = numpy_of(rows["start_s"])
        names = rows["recording_id"].to_pylist()
        filled: dict[str, Slots] = {}
        clips = rows["clip_id"].to_pylist()
        for number, (clip, name) in enumerate(zip(clips, names, strict=True)):
            window = _checked(Window(float(starts[number]) - before, length, width, slots))
            try:
                opened = self._of(store, name, filled, names)
            except QueryError as error:
                unavailable[name] = str(error)
                continue
            strips += [{"clip_id": clip, **row} for row in _cut(opened, name, window)]
        return _table(strips, unavailable)

    def of_recording(self, store: Reader, name: str, window: Window) -> Table:
        """Cut an interval of signals of a recording; one row per slot.

        Parameters
        ----------
        store : Reader
            The open store.
        name : str
            Name of the recording in the store.
        window : Window
            Interval, width and slots.
        """
        try:
            opened = self._of(store, name, {}, [name])
        except QueryError as error:
            return _table([], {name: str(error)})
        return _table(_cut(opened, name, _checked(window)), {})

    def of_file(self, files: UploadedFiles, key: str, window: Window) -> Table:
        """Cut signals of an uploaded file.

        Parameters
        ----------
        files : UploadedFiles
            Uploaded recordings.
        key : str
            Key of the file.
        window : Window
            Interval, width and slots.
        """
        recording, channels, _ = files.recording(key)
        by_label = {c.label: c for c in recording.channels}
        filled = {s: tuple(by_label[x] for x in m.labels) for s, m in channels.slots.items()}
        return _table(_cut(_Opened(recording, filled), "", _checked(window)), {})

    def _of(
        self, store: Reader, name: str, filled: dict[str, Slots], names: Sequence[str]
    ) -> _Opened:
        """Open a recording; the slots of all named are read at the first that is not open."""
        path = recording_file(store.path, name)
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size, store.manifest.uuid, name)
        with self._lock:
            if key in self._opened:
                self._opened.move_to_end(key)
                return self._opened[key]
        if name not in filled:
            filled.update(self.slots(store).of(store, set(names)))
        if name not in filled:
            raise QueryError(f"no recording {name[:80]!r} in this store")
        opened = _open(filled[name], path)
        with self._lock:
            self._opened[key] = opened
            while len(self._opened) > _MAX_OPEN:
                self._opened.popitem(last=False)
        return opened


def _snapshot(store: Reader) -> tuple[str, int]:
    return store.manifest.uuid, store.manifest.snapshot


def _open(slots: Slots, path: Path) -> _Opened:
    recording = read_signals(path)
    channels = {c.label: c for c in recording.channels}
    order = list(SLOT_UNITS)
    filled = {
        slot: tuple(channels[label] for label in labels)
        for slot, labels in slot_channels(slots, channels).items()
    }
    rank = {slot: order.index(slot) if slot in order else len(order) for slot in filled}
    return _Opened(recording, {s: filled[s] for s in sorted(filled, key=rank.__getitem__)})


def _checked(window: Window) -> Window:
    if not 0 < window.seconds <= MAX_SECONDS:
        raise QueryError(f"seconds must be above 0 and at most {MAX_SECONDS:.0f}")
    if not 1 <= window.width <= MAX_WIDTH:
        raise QueryError(f"width must be 1 to {MAX_WIDTH} pixels, got {window.width}")
    return window


def _cut(opened: _Opened, name: str, window: Window) -> list[dict[str, Any]]:
    rows = []
    for slot in _selected(opened.slots, window.slots):
        channels = opened.slots[slot]
        rate = channels[0].sample_rate
        first = max(0, round(window.from_s * rate))
        last = max(first, round((window.from_s + window.seconds) * rate))
        values = channels[0].part(first, last)
        if len(channels) == 2:
            values = values - channels[1].part(first, last)
        shown_unit = SHOWN_UNITS.get(slot) or SLOT_UNITS.get(slot, "")
        scale = conversion(channels[0].unit, shown_unit)
        unit = shown_unit if scale is not None else ""
        if scale is not None and shown_unit:
            values = values * np.float32(scale[0]) + np.float32(scale[1])
        step, low, high = thin(values, window.width)
        rows.append(
            {
                "recording_id": name,
                "slot": slot,
                "channel": " - ".join(c.label for c in channels),
                "unit": unit or channels[0].unit,
                "rate_hz": rate,
                "from_s": first / rate,
                "step_s": step / rate,
                "low": low,
                "high": high,
            }
        )
    return rows


def _selected(present: Collection[str], slots: Sequence[str] | None) -> list[str]:
    """List the slots to read; ``a|b`` selects the first of them that is present."""
    if slots is None:
        return list(present)
    firsts = [next((s for s in text.split("|") if s in present), None) for text in slots]
    return [slot for slot in present if slot in firsts]


def thin(
    values: NDArray[np.float32], width: int
) -> tuple[float, NDArray[np.float32], NDArray[np.float32] | None]:
    """Reduce a signal to the minimum and maximum of each pixel, so that no spike is lost.

    Parameters
    ----------
    values : ndarray of float32, shape [n]
        Samples of the signal.
    width : int
        Width of the drawing, in pixels.

    Returns
    -------
    step : float
        Samples per value.
    low, high : ndarray of float32, shape [width]
        Minimum and maximum of each pixel, NaN if all its samples are. If the signal has at most two
        samples per pixel, ``low`` has all samples and ``high`` is None.
    """
    if len(values) <= 2 * width:
        return 1.0, values, None
    edges = np.floor(np.arange(width) * (len(values) / width)).astype(np.intp)
    low = np.fmin.reduceat(values, edges)
    high = np.fmax.reduceat(values, edges)
    return len(values) / width, low, high


def _table(rows: list[dict[str, Any]], unavailable: dict[str, str]) -> Table:
    columns = {f.name: [row.get(f.name) for row in rows] for f in _SCHEMA}
    arrays = [
        _lists(columns[f.name]) if f.type == _VALUES else pa.array(columns[f.name], f.type)
        for f in _SCHEMA
    ]
    note = f"{len(rows)} strips, unfiltered"
    if unavailable:
        note += f"; recordings not available: {', '.join(unavailable)}"
    return Table(pa.Table.from_arrays(arrays, schema=_SCHEMA), note, {"away": unavailable})


def _lists(values: Sequence[NDArray[np.float32] | None]) -> pa.Array:
    """Join arrays to one column of lists, without a Python object for each value."""
    present = [x for x in values if x is not None]
    ends = np.cumsum([0, *(0 if x is None else len(x) for x in values)], dtype=np.int32)
    joined = np.concatenate(present) if present else np.empty(0, np.float32)
    missing = pa.array([x is None for x in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(joined), mask=missing)
