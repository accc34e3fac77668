"""Plots of the signals of a clip and its neighbours, read from the recordings and never stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.contract import Contract
from sleepfm.recordings import read_recording
from sleepfm.recordings.recording import Channel
from sleepfm.recordings.units import conversion
from sleepfm_index.evaluation.figures.style import STAGE_COLOURS
from sleepfm_index.reader import Reader
from sleepfm_index.schema import target_name, target_parts
from sleepfm_index.storage.private import recording_file
from sleepfm_index.storage.quoting import quote_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sleepfm_index.results import Result

Slots = list[tuple[str, str]]
"""Slots of a recording, and for each what filled it, as in the table ``recordings``."""
SHOWN_UNITS: Final = {"ECG": "mV", "ECG2": "mV"}
"""Units shown, by slot, if they differ from the contract's."""
_EVENTS: Final = {"bas": ("arousal",), "resp": ("apnea", "hypopnea", "desaturation")}
"""Events shaded in the column of each modality, by the beginning of their type."""
_MARK: Final = "#d55e00"
_SATURATION: Final = 6.0
"""Minimum span of a saturation lane, in %, so that the steps of the oximeter stay small."""


@dataclass(frozen=True)
class Strip:
    """The signal of one channel in one clip.

    Parameters
    ----------
    values : ndarray of float32, shape [samples]
        Samples, in ``unit``.
    rate : float
        Sampling rate, in Hz.
    unit : str
        Unit of the values; empty if only the device's unit is known.
    channels : tuple of str
        Labels of the channel, or of the two that are subtracted, as recorded.
    """

    values: NDArray[np.float32]
    rate: float
    unit: str
    channels: tuple[str, ...] = ()


def neighbour_strips(store: Reader, clip: int, result: Result, modality: str, to: str) -> Axes:
    """Draw a query clip and its nearest clips, with the compared modalities marked.

    Parameters
    ----------
    store : Reader
        The open store.
    clip : int
        The query clip.
    result : Result
        Result of ``store.query(modality, to, clip=clip)``.
    modality : str
        Modality of the query.
    to : str
        Target of the query.

    Returns
    -------
    matplotlib.axes.Axes
        Axes of the first strip; its figure contains all strips.

    Raises
    ------
    QueryError
        As in :func:`signal_strips`.
    """
    (query_row,) = store.rows(np.array([clip])).to_pylist()
    hits = result.to_pylist()
    ids = np.array([clip, *(hit["clip_id"] for hit in hits)], np.int64)
    titles = [f"query: {_clip_title(query_row)}"]
    titles += [f"{hit['rank']}: {_clip_title(hit)}, score {hit['score']:.3f}" for hit in hits]
    known = store.manifest.modalities
    compared = target_parts(target_name(modality, to, known), known)
    note = f"query: {modality}; neighbours ranked by {' + '.join(compared)} (orange bar = compared)"
    marked = [(modality,), *[compared] * len(hits)]
    return signal_strips(store, ids, titles, marked=marked, note=note)


def signal_strips(
    store: Reader,
    clip_ids: NDArray[np.int64],
    titles: Sequence[str],
    modalities: Sequence[str] | None = None,
    *,
    marked: Sequence[Collection[str]] = (),
    note: str = "",
) -> Axes:
    """Draw the signals of clips: one row per clip, one column per modality, one line per slot.

    Signals are read from the recordings at their recorded rates, unfiltered, in uV, mV and %. Each
    belt has a separate scale, because its unit depends on the device; voltages of a column share
    one scale. Scored respiratory events and arousals are shaded.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        Clip ids, the query first.
    titles : sequence of str
        Titles, one per clip.
    modalities : sequence of str, optional
        Columns, in order; by default all modalities of the store.
    marked : sequence of collections of str, optional
        For each clip, the modalities to mark at the left edge, e.g. those compared.
    note : str
        Title of the figure.

    Returns
    -------
    matplotlib.axes.Axes
        Axes of the first strip; its figure contains all strips.

    Raises
    ------
    QueryError
        If the paths of the recordings are unknown, or a recording is missing.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    contract = store.manifest.contract
    columns = list(modalities or contract.modalities)
    clips = store.rows(clip_ids).to_pylist()
    strips = read_strips(store, clips, columns)
    figure = Figure(
        figsize=(4.4 * len(columns), 0.7 + 1.55 * len(clips)),
        layout=ConstrainedLayoutEngine(hspace=0.01, wspace=0.01),
    )
    panels = figure.subplots(len(clips), len(columns), squeeze=False, sharex=True)
    seconds = contract.clip_seconds
    for column, modality in enumerate(columns):
        slots = contract.slots_of(modality)
        volts = _volts_per_lane(strips, slots)
        for row, fact in enumerate(clips):
            ax = panels[row][column]
            _draw(ax, strips[row], slots, volts, seconds)
            _shade(ax, _events(store, fact, _EVENTS.get(modality, ()), seconds))
            if row < len(marked) and modality in marked[row]:
                ax.spines["left"].set(color=_MARK, linewidth=3)
        title = contract.modality(modality).title
        panels[-1][column].set_xlabel(f"{title}: time (s)", fontsize="small")
    for row, (fact, title) in enumerate(zip(clips, titles, strict=True)):
        colour = STAGE_COLOURS.get(str(fact["stage"]), "0.3")
        panels[row][0].set_title(
            title,
            loc="left",
            fontsize="small",
            color=colour,
            fontweight="normal" if row else "bold",
        )
    figure.suptitle(note, fontsize="small")
    first: Axes = panels[0][0]
    return first


def read_strips(
    store: Reader, clips: Sequence[Mapping[str, Any]], modalities: Sequence[str]
) -> list[dict[str, Strip]]:
    """Read the signals of clips from their recordings, each recording once.

    Parameters
    ----------
    store : Reader
        The open store.
    clips : sequence of mappings
        Rows of ``clips``, with recording_id and start_s.
    modalities : sequence of str
        Modalities whose slots are read.

    Returns
    -------
    list of dict of str to Strip
        For each clip, the signal of each slot.

    Raises
    ------
    QueryError
        As in :func:`sleepfm_index.storage.private.recording_file`.
    """
    strips_of_clips: list[dict[str, Strip]] = [{} for _ in clips]
    slots = [s for m in modalities for s in store.manifest.contract.slots_of(m)]
    seconds = store.manifest.contract.clip_seconds
    names = sorted({clip["recording_id"] for clip in clips})
    filled = filled_slots(store, names)
    for name in names:
        recording = read_recording(recording_file(store.path, name))
        channels = {c.label: c for c in recording.channels}
        inverted = inverted_slots(filled[name])
        for slot, labels in slot_channels(filled[name], channels).items():
            if slot not in slots:
                continue
            sources = [channels[label] for label in labels]
            signal = _read_slot(store.manifest.contract, slot, sources, slot in inverted)
            for strips, clip in zip(strips_of_clips, clips, strict=True):
                if clip["recording_id"] == name:
                    first = round(clip["start_s"] * signal.rate)
                    part = signal.values[first : first + round(seconds * signal.rate)]
                    strips[slot] = Strip(part.copy(), signal.rate, signal.unit, labels)
    return strips_of_clips


def filled_slots(store: Reader, recording_ids: Collection[str]) -> dict[str, Slots]:
    """Read the slots of recordings, and how the build filled them, in one statement.

    Parameters
    ----------
    store : Reader
        The open store.
    recording_ids : collection of str
        Names of recordings in the store.
    """
    if not recording_ids:
        return {}
    names = ", ".join(map(quote_text, recording_ids))
    rows = store.metadata.select(
        f"SELECT recording_id, slots FROM recordings WHERE recording_id IN ({names})"
    )
    return {row["recording_id"]: row["slots"] for row in rows.to_pylist()}


def slot_channels(slots: Slots, channels: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Find the channel, or the two channels to subtract, that filled each slot at the build.

    Parameters
    ----------
    slots : list of (str, str)
        Slots of the recording; see :func:`filled_slots`.
    channels : collection of str
        Labels of the recording's channels.
    """
    labels_of_slot = {}
    for slot, text in slots:
        words = text.partition(": ")[2].split(" - ")
        # a label may itself contain the separator of two labels
        pairs = [(" - ".join(words[:i]), " - ".join(words[i:])) for i in range(1, len(words))]
        options = [(" - ".join(words),), *pairs]
        for labels in options:
            if all(label in channels for label in labels):
                labels_of_slot[slot] = labels
                break
    return labels_of_slot


def inverted_slots(slots: Slots) -> frozenset[str]:
    """Find the slots whose channel was inverted (multiplied by -1) at the build.

    Parameters
    ----------
    slots : list of (str, str)
        Slots of the recording; see :func:`filled_slots`.
    """
    return frozenset(s for s, text in slots if text.partition(": ")[0].endswith("turned"))


def _read_slot(contract: Contract, slot: str, channels: Sequence[Channel], inverted: bool) -> Strip:
    values = channels[0].read()
    if inverted:
        values *= np.float32(-1)
    if len(channels) == 2:
        values -= channels[1].read()
    unit = SHOWN_UNITS.get(slot, contract.unit_of(slot))
    scale = conversion(channels[0].unit, unit)
    if scale is None:
        return Strip(values, channels[0].sample_rate, "")
    gain, offset = scale
    return Strip(values * np.float32(gain) + np.float32(offset), channels[0].sample_rate, unit)


def _volts_per_lane(strips: Sequence[Mapping[str, Strip]], slots: Sequence[str]) -> float:
    """Compute the voltage, in the column's unit, that fills a lane; it is equal for all clips."""
    spans = [
        _span(of_clip[slot].values)[1]
        for of_clip in strips
        for slot in slots
        if slot in of_clip and of_clip[slot].unit.endswith("V")
    ]
    # lanes of several channels may overlap, a single lane must not be clipped
    return float(np.quantile(spans, 0.8 if len(slots) > 1 else 1.0)) if spans else 0.0


def _span(values: NDArray[np.float32]) -> tuple[float, float]:
    """Compute the centre and range of a signal, without its extreme 0.1 % at either end."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [0.1, 99.9]) if len(known) else (0.0, 0.0)
    return float(low + high) / 2, float(high - low)


def _draw(
    ax: Any, strips: Mapping[str, Strip], slots: Sequence[str], volts: float, seconds: float
) -> None:
    for lane, slot in enumerate(slots):
        strip = strips.get(slot)
        known = strip is not None and bool(np.isfinite(strip.values).any())
        if strip is None or not known:
            ax.text(seconds / 2, -lane, f"no {slot}", ha="center", va="center", color="0.6")
            continue
        middle, height_span = _span(strip.values)
        if strip.unit.endswith("V"):
            height_span = volts
        if strip.unit == "%":
            height_span = max(height_span, _SATURATION)
            median_text = f"{float(np.nanmedian(strip.values)):.0f} %"
            ax.text(seconds * 1.01, -lane, median_text, va="center", fontsize="x-small")
        height = np.clip((strip.values - middle) / (1.15 * height_span or 1.0), -0.9, 0.9)
        time = np.arange(len(height)) / strip.rate
        ax.plot(time, height - lane, color="0.1", linewidth=0.5)
    in_volts = [s.unit for slot, s in strips.items() if slot in slots and s.unit.endswith("V")]
    if in_volts:
        _scale_bar(ax, volts, in_volts[0], seconds)
    names = [_lane_name(slot, strips.get(slot)) for slot in slots]
    ax.set_yticks([-lane for lane in range(len(slots))], names, fontsize="x-small")
    ax.set(xlim=(0, seconds * 1.07), ylim=(0.35 - len(slots), 0.8 if len(slots) > 1 else 0.65))
    ax.set_xticks(np.arange(0, seconds + 1, 5))
    ax.tick_params(axis="x", labelsize="x-small")
    ax.grid(axis="x", color="0.9", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def _lane_name(slot: str, strip: Strip | None) -> str:
    """Return a lane's label: the channel as recorded, and the slot if its name differs."""
    recorded = " \u2212 ".join(strip.channels) if strip is not None else ""
    return slot if recorded in ("", slot) else f"{recorded}\n[{slot}]"


def _scale_bar(ax: Any, volts: float, unit: str, seconds: float) -> None:
    """Draw a scale bar of a round voltage; a lane of height 1 spans 1.15 ``volts``."""
    bar = _round_down(0.8 * volts)
    high = bar / (1.15 * volts)
    ax.plot([seconds * 1.012] * 2, [-high / 2, high / 2], color=_MARK, linewidth=2)
    label = f"{bar:g} {unit.replace('u', 'µ')}"
    ax.text(seconds * 1.02, 0, label, rotation=90, va="center", fontsize="x-small", color=_MARK)


def _events(
    store: Reader, clip: Mapping[str, Any], types: Sequence[str], seconds: float
) -> list[tuple[float, float, str]]:
    """List the start and end (in seconds of the clip) and the type of its scored events."""
    if not types:
        return []
    start = float(clip["start_s"])
    rows = store.metadata.select(
        "SELECT onset_s, duration_s, type, subtype FROM events WHERE recording_id = "
        f"{quote_text(clip['recording_id'])} AND onset_s < {start + seconds} "
        f"AND onset_s + duration_s > {start} ORDER BY onset_s"
    ).to_pylist()
    return [
        (
            max(0.0, row["onset_s"] - start),
            min(seconds, row["onset_s"] + row["duration_s"] - start),
            " ".join(filter(None, (row["subtype"], row["type"]))),
        )
        for row in rows
        if str(row["type"]).startswith(tuple(types))
    ]


def _shade(ax: Any, events: Sequence[tuple[float, float, str]]) -> None:
    for number, (start, end, event_type) in enumerate(events):
        ax.axvspan(start, end, color="#56b4e9", alpha=0.18, linewidth=0)
        ax.text(
            start + 0.2,
            0.99 - 0.1 * (number % 2),
            event_type,
            transform=ax.get_xaxis_transform(),
            va="top",
            fontsize="xx-small",
            color="#0072b2",
        )


def _clip_title(row: Mapping[str, Any]) -> str:
    seconds = round(row["start_s"] if row["clock"] is None else row["clock"])
    time = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    offset = " from the start" if row["clock"] is None else ""
    return f"clip {row['clip_id']}, {row['recording_id']}, {time}{offset}, {row['stage']}"


def _round_down(value: float) -> float:
    power = 10.0 ** np.floor(np.log10(max(value, 1e-12)))
    return float(next(f * power for f in (5, 2, 1) if f * power <= value))
