"""Strips of signal, cut from the recordings and thinned to the width at which they are drawn."""

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
from sleepfm_index.evaluation.figures.signal_strips import SHOWN_UNITS, slot_channels
from sleepfm_index.explore.answers import Table
from sleepfm_index.explore.own_file import OwnFiles
from sleepfm_index.reader import Reader
from sleepfm_index.storage.metadata import numpy_of
from sleepfm_index.storage.private import recording_file

LONGEST_S: Final = 3600.0 * 24
"""Longest interval per request, in seconds."""
WIDEST: Final = 8192
_OPEN: Final = 64
_MOST_CLIPS: Final = 100
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
        ("low", pa.list_(pa.float32())),
        ("high", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class _Opened:
    """An opened recording, and the channels of its slots; two of a slot are subtracted."""

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
        Width of the drawing, in pixels.
    slots : sequence of str or None
        Slots to draw; None draws all.
    """

    from_s: float
    seconds: float
    width: int
    slots: Sequence[str] | None


class Signals:
    """Opened recordings, the least recently used ones let go."""

    def __init__(self) -> None:
        self._opened: OrderedDict[tuple[Any, ...], _Opened] = OrderedDict()
        self._lock = threading.Lock()

    def of_clips(
        self, store: Reader, ids: Sequence[int], seconds: float | None, width: int, slots: Any
    ) -> Table:
        """Cut signals from the start of clips; one row per clip and slot.

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
        """
        if len(ids) > _MOST_CLIPS:
            raise QueryError(f"strips of at most {_MOST_CLIPS} clips at once, got {len(ids)}")
        rows = store.rows(np.array(ids, np.int64)).select(["clip_id", "recording_id", "start_s"])
        length = store.manifest.contract.clip_seconds if seconds is None else seconds
        found: list[dict[str, Any]] = []
        away: dict[str, str] = {}
        starts = numpy_of(rows["start_s"])
        for at, (clip, name) in enumerate(
            zip(rows["clip_id"].to_pylist(), rows["recording_id"].to_pylist(), strict=True)
        ):
            window = _checked(Window(float(starts[at]), length, width, slots))
            try:
                opened = self._of(store, name)
            except QueryError as error:
                away[name] = str(error)
                continue
            found += [{"clip_id": clip, **row} for row in _cut(opened, name, window)]
        return _table(found, away)

    def of_recording(self, store: Reader, name: str, window: Window) -> Table:
        """Cut an interval of signals of a recording; one row per slot.

        Parameters
        ----------
        store : Reader
            The open store.
        name : str
            Name of the recording in the store.
        window : Window
            Time range and drawing options.
        """
        try:
            opened = self._of(store, name)
        except QueryError as error:
            return _table([], {name: str(error)})
        return _table(_cut(opened, name, _checked(window)), {})

    def of_file(self, files: OwnFiles, key: str, window: Window) -> Table:
        """Cut signals of an uploaded file.

        Parameters
        ----------
        files : OwnFiles
            Recordings that were handed in.
        key : str
            Key of the file.
        window : Window
            Time range and drawing options.
        """
        recording, channels, _ = files.recording(key)
        by_label = {c.label: c for c in recording.channels}
        filled = {s: tuple(by_label[x] for x in m.labels) for s, m in channels.slots.items()}
        return _table(_cut(_Opened(recording, filled), "", _checked(window)), {})

    def _of(self, store: Reader, name: str) -> _Opened:
        path = recording_file(store.path, name)
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size, store.manifest.uuid, name)
        with self._lock:
            if key in self._opened:
                self._opened.move_to_end(key)
                return self._opened[key]
        opened = _open(store, name, path)
        with self._lock:
            self._opened[key] = opened
            while len(self._opened) > _OPEN:
                self._opened.popitem(last=False)
        return opened


def _open(store: Reader, name: str, path: Path) -> _Opened:
    recording = read_signals(path)
    channels = {c.label: c for c in recording.channels}
    order = list(SLOT_UNITS)
    filled = {
        slot: tuple(channels[label] for label in labels)
        for slot, labels in slot_channels(store, name, channels).items()
    }
    places = {slot: order.index(slot) if slot in order else len(order) for slot in filled}
    return _Opened(recording, {s: filled[s] for s in sorted(filled, key=places.__getitem__)})


def _checked(window: Window) -> Window:
    if not 0 < window.seconds <= LONGEST_S:
        raise QueryError(f"seconds must be above 0 and at most {LONGEST_S:.0f}")
    if not 1 <= window.width <= WIDEST:
        raise QueryError(f"width must be 1 to {WIDEST} pixels, got {window.width}")
    return window


def _cut(opened: _Opened, name: str, window: Window) -> list[dict[str, Any]]:
    rows = []
    for slot in _wanted(opened.slots, window.slots):
        channels = opened.slots[slot]
        rate = channels[0].sample_rate
        first = max(0, round(window.from_s * rate))
        last = max(first, round((window.from_s + window.seconds) * rate))
        values = channels[0].part(first, last)
        if len(channels) == 2:
            values = values - channels[1].part(first, last)
        wanted = SHOWN_UNITS.get(slot) or SLOT_UNITS.get(slot, "")
        scale = conversion(channels[0].unit, wanted)
        unit = wanted if scale is not None else ""
        if scale is not None and wanted:
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


def _wanted(there: Collection[str], slots: Sequence[str] | None) -> list[str]:
    """Slots to cut; of ``a|b`` the first that is there."""
    if slots is None:
        return list(there)
    firsts = [next((s for s in said.split("|") if s in there), None) for said in slots]
    return [slot for slot in there if slot in firsts]


def thin(
    values: NDArray[np.float32], width: int
) -> tuple[float, NDArray[np.float32], NDArray[np.float32] | None]:
    """Thin a signal to the least and greatest of each pixel, so that no spike is lost.

    Parameters
    ----------
    values : ndarray of float32, shape [n]
        Samples of the signal.
    width : int
        Pixels.

    Returns
    -------
    step : float
        Samples from one value to the next.
    low, high : ndarray of float32
        Of each pixel, NaN where it holds no sample that is known; ``high`` is None, and ``low`` all
        samples, where there are no more than two a pixel.
    """
    if len(values) <= 2 * width:
        return 1.0, values, None
    edges = np.floor(np.arange(width) * (len(values) / width)).astype(np.intp)
    low = np.fmin.reduceat(values, edges)
    high = np.fmax.reduceat(values, edges)
    return len(values) / width, low, high


def _table(rows: list[dict[str, Any]], away: dict[str, str]) -> Table:
    columns = {f.name: [row.get(f.name) for row in rows] for f in _SCHEMA}
    arrays = [pa.array(columns[f.name], f.type) for f in _SCHEMA]
    note = f"{len(rows)} strips, unfiltered"
    if away:
        note += f"; recordings not available: {', '.join(away)}"
    return Table(pa.Table.from_arrays(arrays, schema=_SCHEMA), note, {"away": away})
