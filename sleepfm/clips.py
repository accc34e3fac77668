"""A recording becomes clips: 30 s, one rate, labelled, flagged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from sleepfm.choices import Grid
from sleepfm.contract import Contract
from sleepfm.errors import ChannelError, RecordingError
from sleepfm.labels import clip_event_seconds, clip_stage_shares, clip_stages, scoring_grid
from sleepfm.quality import ISSUES, Level, bounds_of, implausible, level, measure
from sleepfm.recordings.channels import ChannelMap, SlotMatch
from sleepfm.recordings.recording import Channel, Recording
from sleepfm.recordings.scoring.vocabulary import Event
from sleepfm.recordings.units import conversion
from sleepfm.resampling import resample

_CLIP_AT = 20.0


@dataclass(frozen=True)
class Clips:
    """One recording cut into ``n`` clips, ready for the encoders.

    Parameters
    ----------
    start_s : ndarray of float64, shape [n]
        Offset of each clip from the recording's start, in seconds.
    clock_s : ndarray of float64, shape [n], or None
        Time of day of each clip, in seconds after midnight.
    stage, raw_stage : tuple of str, length n
        AASM stage that covers most of the clip (``UNS`` where nothing was scored) and the label as
        written (``""`` if none).
    stage_share : ndarray of float32, shape [n]
        Share of the clip for which its stage holds, in 0..1.
    signals : dict of str to ndarray of float32, shape [n, slots, samples]
        Only modalities with at least one slot filled; a missing slot is zero.
    filled : dict of str to ndarray of uint16, shape [n]
        Bit ``i`` set where slot ``i`` carries signal in that clip; 0 means the modality is absent.
    quality : dict of str to ndarray of shape [n]
        Per modality fractions in 0..1 of flat, clipped, NaN and out-of-range samples, averaged over
        the slots filled, keyed by the column name, e.g. ``quality_bas_flat``.
    event_seconds : dict of str to ndarray of float32, shape [n]
        Seconds of overlap per event type, keyed by the column name, e.g. ``hypopnea_s``.
    events : tuple of Event
        The events themselves.
    warnings : tuple of str
        What a person should check, one sentence each.
    """

    start_s: NDArray[np.float64]
    clock_s: NDArray[np.float64] | None
    stage: tuple[str, ...]
    raw_stage: tuple[str, ...]
    signals: dict[str, NDArray[np.float32]]
    filled: dict[str, NDArray[np.uint16]]
    quality: dict[str, NDArray[np.float32]]
    event_seconds: dict[str, NDArray[np.float32]]
    events: tuple[Event, ...]
    warnings: tuple[str, ...] = ()
    stage_share: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.start_s)


def cut_clips(
    recording: Recording,
    channels: ChannelMap,
    contract: Contract,
    *,
    strict: bool = False,
    grid: Grid = "scoring",
) -> Clips:
    """Cut a recording into clips as a contract requires; an incomplete last clip is dropped.

    Each channel that fills a slot is read, checked, resampled once for the whole night, scaled and
    cut. Samples that are missing (NaN, a gap) are zero in the result and counted in ``quality``.

    Parameters
    ----------
    recording : Recording
        The night.
    channels : ChannelMap
        Which channel fills which slot.
    contract : Contract
        Rate, resampling, scaling and units.
    strict : bool
        Whether values that contradict their unit are an error instead of a warning.
    grid : {"scoring", "recording"}
        Whether clips begin with the scorer's epochs, where all share one offset, or with the
        recording.

    Raises
    ------
    RecordingError
        If the recording is shorter than one clip.
    ChannelError
        Under ``strict``, if values contradict their unit.
    """
    clip_s = contract.clip_seconds
    stages = recording.scoring.stages
    offset_s = scoring_grid(stages, clip_s) if grid == "scoring" else 0.0
    count = int((recording.duration_s - offset_s) / clip_s + 1e-6)
    if count < 1 and offset_s:
        offset_s, count = 0.0, int(recording.duration_s / clip_s + 1e-6)
    if count < 1:
        raise RecordingError(
            f"{recording.stem} lasts {recording.duration_s:.3g} s, less than one clip ({clip_s} s)"
        )
    warnings: list[str] = []
    signals: dict[str, NDArray[np.float32]] = {}
    filled: dict[str, NDArray[np.uint16]] = {}
    quality: dict[str, NDArray[np.float32]] = {}
    blocks = {
        m: np.zeros((count, len(contract.slots_of(m)), contract.clip_samples), np.float32)
        for m in contract.modalities
    }
    qualities = _fill_all(blocks, recording, channels, contract, warnings, strict, offset_s)
    for modality, block in blocks.items():
        slots = contract.slots_of(modality)
        bits = np.zeros(count, np.uint16)
        issues = np.zeros((len(ISSUES), count), np.float32)
        used = 0
        for i, slot in enumerate(slots):
            done = qualities.get(slot)
            if done is not None:
                used += 1
                issues += done
                bits |= np.where(done[ISSUES.index("nan")] < 1, 1 << i, 0).astype(np.uint16)
        for name, row in zip(ISSUES, issues, strict=True):
            quality[f"quality_{modality}_{name}"] = (row / max(used, 1)).astype(np.float32)
        if used:
            signals[modality], filled[modality] = block, bits
    if not signals:
        raise ChannelError(f"every channel of {recording.stem} that fits a slot is flat")
    start_s = offset_s + np.arange(count, dtype=np.float64) * clip_s
    clock = recording.start_clock_s
    stage, raw_stage = clip_stages(stages, count, clip_s, offset_s)
    return Clips(
        start_s=start_s,
        clock_s=None if clock is None else (clock + start_s) % 86400,
        stage=stage,
        raw_stage=raw_stage,
        signals=signals,
        filled=filled,
        quality=quality,
        event_seconds=clip_event_seconds(recording.scoring.events, count, clip_s, offset_s),
        events=recording.scoring.events,
        warnings=tuple(warnings),
        stage_share=clip_stage_shares(stages, count, clip_s, offset_s),
    )


def _fill_all(
    blocks: dict[str, NDArray[np.float32]],
    recording: Recording,
    channels: ChannelMap,
    contract: Contract,
    warnings: list[str],
    strict: bool,
    offset_s: float,
) -> dict[str, NDArray[np.float32] | None]:
    """Fill every slot that has a channel, two at a time; give the quality of each by slot.

    Reading and resampling let go of Python's lock, and slots know nothing of each other. More than
    two at a time would only cost memory.
    """
    jobs = [
        (blocks[modality][:, i], channels.slots[slot])
        for modality in blocks
        for i, slot in enumerate(contract.slots_of(modality))
        if slot in channels.slots
    ]
    said: list[list[str]] = [[] for _ in jobs]
    with ThreadPoolExecutor(max_workers=2) as pool:
        done = pool.map(
            lambda job, own: _fill(job[0], recording, job[1], contract, own, strict, offset_s),
            jobs,
            said,
        )
        qualities = {job[1].slot: quality for job, quality in zip(jobs, done, strict=True)}
    for own in said:
        warnings += own
    return qualities


def _fill(
    out: NDArray[np.float32],
    recording: Recording,
    match: SlotMatch,
    contract: Contract,
    warnings: list[str],
    strict: bool,
    offset_s: float,
) -> NDArray[np.float32] | None:
    """Fill one slot of all clips, ``out`` of shape [clips, samples]; give its quality.

    None, with ``out`` left at zero, where the channel carries one value all night.
    """
    by_label = {c.label: c for c in recording.channels}
    first = by_label[match.labels[0]]
    rate = first.sample_rate
    values = first.read()
    found = level(values)
    dead = first if found.constant and not _varies(values) else None
    if len(match.labels) == 2 and dead is None:
        second = by_label[match.labels[1]]
        other = second.read()
        if level(other).constant and not _varies(other):
            dead = second
        values -= other
        found = level(values)
    if dead is not None or (found.constant and not _varies(values)):
        label = (dead or first).label
        warnings.append(f"{match.slot}: {label} is constant and was not used")
        return None
    if match.turned:
        values *= np.float32(-1)
        found = Level(-found.median, found.deviation, found.constant)
    unit = first.unit
    if contract.unit_of(match.slot) == "%":
        told = _saturation_unit(match.slot, first, found, warnings)
        if told is None:
            return None
        unit = told
    to_slot_unit = conversion(unit, contract.unit_of(match.slot))
    scale = to_slot_unit[0] if to_slot_unit else None
    problem = implausible(match.slot, contract.unit_of(match.slot), found, scale)
    if problem and strict:
        raise ChannelError(f"{recording.stem}: {problem}; without --strict it is a warning")
    if problem:
        warnings.append(problem)
    to_contract_unit = conversion(unit, contract.units.get(match.slot, ""))
    if to_contract_unit is None or scale is None:
        said = "has an unknown unit" if first.unit else "has no unit in the header"
        warnings.append(f"{match.slot}: {first.label} {said}; values are used unscaled")
    issues = measure(
        values[round(offset_s * rate) :],
        rate,
        len(out),
        contract.clip_seconds,
        bounds_of(match.slot, contract.unit_of(match.slot), found, scale),
        stands_still=contract.unit_of(match.slot) == "%",
    )
    gain, offset = to_contract_unit or (1.0, 0.0)
    if (gain, offset) != (1.0, 0.0):
        values *= np.float32(gain)
        values += np.float32(offset)
        found = Level(found.median * gain + offset, found.deviation * gain, found.constant)
    skipped = round(offset_s * contract.sample_rate)
    boost = contract.boost.get(match.slot)
    whole = _prepared(values, rate, found, contract, skipped + out.size, boost)
    out[:] = whole[skipped:].reshape(out.shape)
    return issues


def _saturation_unit(slot: str, channel: Channel, found: Level, warnings: list[str]) -> str | None:
    """Infer the unit of a saturation from its values, if missing or impossible.

    None where it is neither a percentage nor a fraction and its unit says that it is a voltage.
    """
    if conversion(channel.unit, "%") is not None:
        return channel.unit
    if 50 <= found.median <= 100:
        return "%"
    if 0.3 <= found.median <= 1:
        warnings.append(
            f"{slot}: {channel.label} has no unit; inferred to be a fraction of 1 from its values"
        )
        return "1"
    if conversion(channel.unit, "uV") is not None:
        warnings.append(
            f"{slot}: {channel.label} is not used: in {channel.unit} with a median of "
            f"{found.median:.3g} it is not a saturation"
        )
        return None
    return channel.unit


def _varies(values: NDArray[np.float32]) -> bool:
    finite = values[np.isfinite(values)]
    return bool(len(finite) and finite.min() < finite.max())


def _prepared(
    values: NDArray[np.float32],
    rate: float,
    found: Level,
    contract: Contract,
    size: int,
    boost: tuple[float, float] | None,
) -> NDArray[np.float32]:
    """Resample, scale and boost a channel to exactly ``size`` samples, zero where it is missing.

    Works in ``values`` itself.
    """
    bad = None
    if not np.isfinite(np.sum(values, dtype=np.float64)):
        bad = ~np.isfinite(values)
        values[bad] = found.median
    robust = contract.scaling == "robust"
    # centred first: resampling takes the signal as zero beyond its ends, and an offset would ring
    shift = np.float32(found.median if robust or contract.resampling == "polyphase" else 0)
    if shift:
        values -= shift
    whole = resample(values, rate, contract.sample_rate, contract.resampling)
    if len(whole) < size:
        whole = np.pad(whole, (0, size - len(whole)), mode="edge")
    whole = whole[:size]
    if robust:
        whole *= np.float32(1 / found.deviation if found.deviation else 0)
        if boost is not None:
            _boost(whole, contract.sample_rate, *boost)
        np.clip(whole, -_CLIP_AT, _CLIP_AT, out=whole)
    elif shift:
        whole += shift
    if bad is not None:
        nearest = np.arange(size) * (rate / contract.sample_rate)
        whole[bad[np.minimum(nearest.astype(np.int64), len(bad) - 1)]] = 0
    return whole


def _boost(whole: NDArray[np.float32], rate: int, window_s: float, gain: float) -> None:
    """Add ``gain`` times what a moving average does not follow, in place."""
    width = max(3, round(window_s * rate) | 1)
    slow = uniform_filter1d(whole, width, mode="nearest")
    whole += np.float32(gain) * (whole - slow)
