"""Cutting of recordings into clips of 30 s at one sampling rate, with labels and quality."""

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
        AASM stage that covers most of the clip (``UNS`` if unscored), and the label as written
        (``""`` if none).
    stage_share : ndarray of float32, shape [n]
        Fraction of the clip that is covered by its stage, 0 to 1.
    signals : dict of str to ndarray of float32, shape [n, slots, samples]
        Prepared signals of the modalities with at least one filled slot; a missing slot is zero.
    filled : dict of str to ndarray of uint16, shape [n]
        Bit ``i`` is set if slot ``i`` has a signal in that clip; 0 if the modality is absent.
    quality : dict of str to ndarray of shape [n]
        Fractions (0 to 1) of flat, clipped, NaN and out-of-range samples per modality, averaged
        over its filled slots, by column name, e.g. ``quality_bas_flat``.
    event_seconds : dict of str to ndarray of float32, shape [n]
        Seconds of overlap with each type of event, by column name, e.g. ``hypopnea_s``.
    events : tuple of Event
        The scored events.
    warnings : tuple of str
        Warnings for the user, one sentence each.
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
    cut. Missing samples (NaN, gaps) are zero in the result and counted in ``quality``.

    Parameters
    ----------
    recording : Recording
        The recording.
    channels : ChannelMap
        Assignment of channels to slots.
    contract : Contract
        Sampling rate, resampling, scaling and units.
    strict : bool
        Whether values that contradict their unit are an error instead of a warning.
    grid : {"scoring", "recording"}
        Whether clips are aligned with the scored epochs, if these share one offset, or with the
        start of the recording.

    Returns
    -------
    Clips
        The clips, their labels and quality.

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
    """Fill every slot that has a channel; return the quality of each, by slot.

    Slots are independent, and reading and resampling release Python's global lock, so two threads
    are used. More would mainly cost memory.
    """
    jobs = [
        (blocks[modality][:, i], channels.slots[slot])
        for modality in blocks
        for i, slot in enumerate(contract.slots_of(modality))
        if slot in channels.slots
    ]
    warnings_of: list[list[str]] = [[] for _ in jobs]
    with ThreadPoolExecutor(max_workers=2) as pool:
        done = pool.map(
            lambda job, slot_warnings: _fill(
                job[0], recording, job[1], contract, slot_warnings, strict, offset_s
            ),
            jobs,
            warnings_of,
        )
        qualities = {job[1].slot: quality for job, quality in zip(jobs, done, strict=True)}
    for slot_warnings in warnings_of:
        warnings += slot_warnings
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
    """Fill one slot of all clips, ``out`` of shape [clips, samples]; return its quality.

    If the channel is constant, ``out`` stays zero and the result is None.
    """
    by_label = {c.label: c for c in recording.channels}
    first = by_label[match.labels[0]]
    rate = first.sample_rate
    values = first.read()
    stats = level(values)
    constant = first if stats.constant and not _varies(values) else None
    if len(match.labels) == 2 and constant is None:
        second = by_label[match.labels[1]]
        subtracted = second.read()
        if level(subtracted).constant and not _varies(subtracted):
            constant = second
        values -= subtracted
        stats = level(values)
    if constant is not None or (stats.constant and not _varies(values)):
        label = (constant or first).label
        warnings.append(f"{match.slot}: {label} is constant and was not used")
        return None
    if match.turned:
        values *= np.float32(-1)
        stats = Level(-stats.median, stats.deviation, stats.constant)
    unit = first.unit
    if contract.unit_of(match.slot) == "%":
        inferred = _saturation_unit(match.slot, first, stats, warnings)
        if inferred is None:
            return None
        unit = inferred
    to_slot_unit = conversion(unit, contract.unit_of(match.slot))
    scale = to_slot_unit[0] if to_slot_unit else None
    problem = implausible(match.slot, contract.unit_of(match.slot), stats, scale)
    if problem and strict:
        raise ChannelError(f"{recording.stem}: {problem}; without --strict it is a warning")
    if problem:
        warnings.append(problem)
    to_contract_unit = conversion(unit, contract.units.get(match.slot, ""))
    if to_contract_unit is None or scale is None:
        problem_text = "has an unknown unit" if first.unit else "has no unit in the header"
        warnings.append(f"{match.slot}: {first.label} {problem_text}; values are used unscaled")
    issues = measure(
        values[round(offset_s * rate) :],
        rate,
        len(out),
        contract.clip_seconds,
        bounds_of(match.slot, contract.unit_of(match.slot), stats, scale),
        stands_still=contract.unit_of(match.slot) == "%",
    )
    gain, offset = to_contract_unit or (1.0, 0.0)
    if (gain, offset) != (1.0, 0.0):
        values *= np.float32(gain)
        values += np.float32(offset)
        stats = Level(stats.median * gain + offset, stats.deviation * gain, stats.constant)
    skipped = round(offset_s * contract.sample_rate)
    boost = contract.boost.get(match.slot)
    prepared = _prepared(values, rate, stats, contract, skipped + out.size, boost)
    out[:] = prepared[skipped:].reshape(out.shape)
    return issues


def _saturation_unit(slot: str, channel: Channel, stats: Level, warnings: list[str]) -> str | None:
    """Infer the unit of a saturation from its values, if it is missing or impossible.

    The result is None if it is neither a percentage nor a fraction, and its unit is a voltage.
    """
    if conversion(channel.unit, "%") is not None:
        return channel.unit
    if 50 <= stats.median <= 100:
        return "%"
    if 0.3 <= stats.median <= 1:
        warnings.append(
            f"{slot}: {channel.label} has no unit; inferred to be a fraction of 1 from its values"
        )
        return "1"
    if conversion(channel.unit, "uV") is not None:
        warnings.append(
            f"{slot}: {channel.label} is not used: in {channel.unit} with a median of "
            f"{stats.median:.3g} it is not a saturation"
        )
        return None
    return channel.unit


def _varies(values: NDArray[np.float32]) -> bool:
    finite = values[np.isfinite(values)]
    return bool(len(finite) and finite.min() < finite.max())


def _prepared(
    values: NDArray[np.float32],
    rate: float,
    stats: Level,
    contract: Contract,
    size: int,
    boost: tuple[float, float] | None,
) -> NDArray[np.float32]:
    """Resample, scale and boost a channel to ``size`` samples, zero where it is missing.

    ``values`` is modified.
    """
    missing = None
    if not np.isfinite(values).all():
        missing = ~np.isfinite(values)
        values[missing] = stats.median
    robust = contract.scaling == "robust"
    # centred first: resampling assumes zero beyond the ends, so an offset would cause ringing
    shift = np.float32(stats.median if robust or contract.resampling == "polyphase" else 0)
    if shift:
        values -= shift
    resampled = resample(values, rate, contract.sample_rate, contract.resampling)
    if len(resampled) < size:
        resampled = np.pad(resampled, (0, size - len(resampled)), mode="edge")
    resampled = resampled[:size]
    if robust:
        resampled *= np.float32(1 / stats.deviation if stats.deviation else 0)
        if boost is not None:
            _boost(resampled, contract.sample_rate, *boost)
        np.clip(resampled, -_CLIP_AT, _CLIP_AT, out=resampled)
    elif shift:
        resampled += shift
    if missing is not None:
        nearest = np.arange(size) * (rate / contract.sample_rate)
        resampled[missing[np.minimum(nearest.astype(np.int64), len(missing) - 1)]] = 0
    return resampled


def _boost(values: NDArray[np.float32], rate: int, window_s: float, gain: float) -> None:
    """Add ``gain`` times the difference from a moving average, in place."""
    width = max(3, round(window_s * rate) | 1)
    slow = uniform_filter1d(values, width, mode="nearest")
    values += np.float32(gain) * (values - slow)
