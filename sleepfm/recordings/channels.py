"""Assignment of channels to slots, by the table in channels.yaml."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from sleepfm.contract import Contract
from sleepfm.errors import ChannelError
from sleepfm.modality import SLOT_UNITS
from sleepfm.recordings.channel_names import NO_REFERENCE, normalise, shared_references
from sleepfm.recordings.channels_file import read_overrides
from sleepfm.recordings.recording import Channel, Recording
from sleepfm.recordings.units import conversion, known_unit

Tier = Literal["alias", "derive", "substitute", "override"]

_MAX_LISTED: Final = 12


class AmbiguousChannels(ChannelError):
    """Two channels match one slot in the same tier.

    Parameters
    ----------
    stem : str
        Name of the recording.
    options : dict of str to list of tuple of str
        For each ambiguous slot, its candidates: a channel label, or two labels to subtract.
    """

    def __init__(self, stem: str, options: dict[str, list[tuple[str, ...]]]) -> None:
        self.options = options
        descriptions = (
            f"{slot} could be {' and '.join(' minus '.join(labels) for labels in candidates)}"
            for slot, candidates in options.items()
        )
        super().__init__(
            f"channels of {stem} are ambiguous: {'; '.join(descriptions)}; "
            "choose with a channels file (--channels)"
        )


@dataclass(frozen=True)
class SlotMatch:
    """Channel assigned to one slot (or two to subtract), and the rule by which it was.

    ``turned``: the channel is the reversed derivation (ECG2-ECG1), so its sign is changed.
    """

    slot: str
    labels: tuple[str, ...]
    tier: Tier
    turned: bool = False


@dataclass(frozen=True)
class ChannelMap:
    """Assignment of the channels of a recording to slots.

    Parameters
    ----------
    slots : dict of str to SlotMatch
        The filled slots, by name.
    unmatched : tuple of str
        Labels of channels that are not used, in file order.
    warnings : tuple of str
        Warnings for the user, one sentence each.
    substitutes : dict of str to tuple of str
        For each empty slot, the channels that could substitute for it.
    """

    slots: dict[str, SlotMatch]
    unmatched: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    substitutes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Slot:
    min_hz: float
    alias: frozenset[str]
    derive: tuple[tuple[str, str], ...]
    substitute: tuple[str, ...]
    turned: frozenset[str] = frozenset()
    preferred: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Convention:
    cohort: str
    when: frozenset[str]
    unless: frozenset[str]
    channels: dict[str, str]
    prefix: str = ""


def is_voltage(label: str) -> bool:
    """Return whether a channel may be a voltage; not if it has the name of a belt or saturation.

    Parameters
    ----------
    label : str
        Label of the channel.
    """
    table, _ = _table()
    name = normalise(label)
    return not any(
        name in rules.alias or name in rules.substitute
        for slot, rules in table.items()
        if SLOT_UNITS.get(slot) != "uV"
    )


def match_channels(
    recording: Recording,
    contract: Contract,
    *,
    substitute: bool = False,
    overrides: Path | Mapping[str, tuple[str, ...]] | None = None,
) -> ChannelMap:
    """Assign the channels of a recording to the slots of a contract.

    Parameters
    ----------
    recording : Recording
        The recording. Only labels, units and sample rates are used; no signal is read.
    contract : Contract
        Defines the slots.
    substitute : bool
        Whether another derivation or sensor may be used instead; the first in the table is best.
    overrides : Path or mapping, optional
        A YAML file, or the result of :func:`read_overrides`: ``slot: label``, ``slot: [plus,
        minus]`` or ``slot: null``. It precedes the table if the recording has those labels.

    Raises
    ------
    ChannelError
        If two channels match one slot in the same tier (:class:`AmbiguousChannels`), if no slot can
        be filled, or if the overrides cannot be read.
    """
    slot_names = contract.all_slots
    chosen: Mapping[str, tuple[str, ...]] = {}
    if overrides is not None:
        chosen = read_overrides(overrides, slot_names) if isinstance(overrides, Path) else overrides
    table, conventions = _table()
    matches: dict[str, SlotMatch] = {}
    possible: dict[str, tuple[str, ...]] = {}
    conflicts: dict[str, list[tuple[str, ...]]] = {}
    warnings: list[str] = []
    by_label = {c.label: c for c in recording.channels}
    for slot in slot_names:
        if slot in chosen and _override(slot, chosen[slot], by_label, matches, warnings):
            continue
        rules = table.get(slot) or _Slot(0.0, frozenset({normalise(slot)}), (), ())
        usable = _usable(recording.channels, slot, contract.unit_of(slot), rules, warnings)
        options = _options(slot, rules, usable, conventions, recording, warnings)
        tier, candidates = next(((t, c) for t, c in options if c), ("alias", []))
        ranked = _substitutes(slot, rules, usable, _reserved(table, slot_names, slot))
        names = [normalise(labels[0]) for labels in candidates]
        best = next((name for name in rules.preferred if name in names), "")
        if len(names) > 1 and names.count(best) == 1:
            first = candidates[names.index(best)]
            others = _listing(labels[0] for labels in candidates if labels != first)
            warnings.append(f"{slot}: {first[0]} is used, preferred to {others} by the table")
            candidates = [first]
        if len(candidates) > 1:
            conflicts[slot] = candidates
        elif candidates:
            turned = normalise(candidates[0][0]) in rules.turned and len(candidates[0]) == 1
            matches[slot] = SlotMatch(slot, candidates[0], tier, turned)
            if turned:
                warnings.append(f"{slot}: {candidates[0][0]} is inverted: its sign is changed")
        elif ranked and substitute:
            matches[slot] = SlotMatch(slot, (ranked[0],), "substitute")
            if len(ranked) > 1:
                warnings.append(
                    f"{slot}: {ranked[0]} is substituted, preferred to {_listing(ranked[1:])} by "
                    "the order of the table"
                )
        elif ranked:
            possible[slot] = tuple(ranked)
    if conflicts:
        raise AmbiguousChannels(recording.stem, conflicts)
    if not matches:
        suggestions = "; ".join(f"{slot} from {ranked[0]}" for slot, ranked in possible.items())
        advice = f"--substitute would fill {suggestions}; or name" if possible else "Name"
        raise ChannelError(
            f"{recording.stem} has no usable channel; it holds {_listing(by_label)}. "
            f"{advice} them in a channels file (--channels)"
        )
    used = {label for match in matches.values() for label in match.labels}
    return ChannelMap(
        slots=matches,
        unmatched=tuple(label for label in by_label if label not in used),
        warnings=tuple(dict.fromkeys(warnings)),
        substitutes=possible,
    )


def _reserved(table: Mapping[str, _Slot], slots: Sequence[str], slot: str) -> frozenset[str]:
    """Return names that belong to another slot of the contract, and so are not substitutes."""
    return frozenset().union(*(table[s].alias for s in slots if s != slot and s in table))


def _override(
    slot: str,
    labels: tuple[str, ...],
    by_label: Mapping[str, Channel],
    matches: dict[str, SlotMatch],
    warnings: list[str],
) -> bool:
    """Apply one line of the channels file; return False if the recording lacks its labels."""
    missing = [label for label in labels if label not in by_label]
    if missing:
        warnings.append(
            f"{slot}: the channels file names {_listing(missing)}, not in this recording"
        )
        return False
    if len(labels) == 2 and not _same_kind(by_label[labels[0]], by_label[labels[1]]):
        raise ChannelError(
            f"{slot} cannot be {labels[0]} minus {labels[1]}: their units or rates differ"
        )
    if labels:
        matches[slot] = SlotMatch(slot, labels, "override")
    return True


def _options(
    slot: str,
    rules: _Slot,
    usable: Sequence[Channel],
    conventions: Sequence[_Convention],
    recording: Recording,
    warnings: list[str],
) -> list[tuple[Tier, list[tuple[str, ...]]]]:
    """Return candidates by tier: aliases, differences, and names by the convention of a cohort."""
    alias = [(c.label,) for c in usable if normalise(c.label) in rules.alias]
    options: list[tuple[Tier, list[tuple[str, ...]]]] = [("alias", list(alias))]
    pairs: list[tuple[str, ...]] = []
    names = [normalise(c.label) for c in usable]
    for plus, minus in (*rules.derive, *shared_references(slot, names)):
        firsts = [c for c in usable if normalise(c.label) == plus]
        seconds = [c for c in usable if normalise(c.label) == minus]
        for first in firsts:
            for second in seconds:
                if (first.label, second.label) in pairs:
                    continue
                if _same_kind(first, second):
                    pairs.append((first.label, second.label))
                elif not alias:
                    warnings.append(
                        f"{slot}: {first.label} minus {second.label} is not used: their units or "
                        "rates differ"
                    )
    # The difference is the same for any shared reference; the first of the table is used.
    minuends = {normalise(p[0]) for p in pairs}
    equivalent = len(minuends) > 1 or len({p[0] for p in pairs}) == 1
    options.append(("derive", pairs[:1] if equivalent else pairs))
    if not alias and not pairs:
        present = {normalise(c.label) for c in recording.channels}
        for convention in conventions:
            if not convention.when <= present or convention.unless & present:
                continue
            if not all(c.label.startswith(convention.prefix) for c in recording.channels):
                continue
            named = [c for c in usable if convention.channels.get(normalise(c.label)) == slot]
            options.append(("alias", [(c.label,) for c in named]))
            warnings.extend(
                f"{c.label} has no derivation in its label; assumed {slot} as in "
                f"{convention.cohort}"
                for c in named
            )
            if named:
                break
    return options


def _substitutes(
    slot: str, rules: _Slot, usable: Sequence[Channel], others: frozenset[str]
) -> list[str]:
    """Return possible substitutes: those in the table, then any with the electrode (C3-O1)."""
    order = {name: i for i, name in enumerate(rules.substitute)}
    electrode = normalise(slot.partition("-")[0]) if "-" in slot else None
    ranked = []
    for i, channel in enumerate(usable):
        name = normalise(channel.label)
        if name in others:
            continue
        if name in order:
            ranked.append((order[name], i, channel.label))
        elif (
            electrode
            and name.startswith(electrode)
            and re.match(r"[a-z]", name[len(electrode) :])
            and not NO_REFERENCE.search(name[len(electrode) :])
        ):
            ranked.append((len(order), i, channel.label))
    return [label for _, _, label in sorted(ranked)]


def _usable(
    channels: Sequence[Channel], slot: str, slot_unit: str, rules: _Slot, warnings: list[str]
) -> list[Channel]:
    """Return the channels whose sample rate and unit are suitable for a slot."""
    usable = []
    for channel in channels:
        unit = known_unit(channel.unit)
        reason = ""
        if channel.sample_rate < rules.min_hz:
            reason = f"{channel.sample_rate:g} Hz is too slow"
        elif (
            unit is not None
            and conversion(channel.unit, slot_unit) is None
            # Some exports give all channels in uV; a saturation is recognised by its values.
            and not (slot_unit == "%" and conversion(channel.unit, "uV") is not None)
        ):
            reason = f"its unit is {unit}"
        if not reason:
            usable.append(channel)
        elif normalise(channel.label) in rules.alias:
            warnings.append(f"{slot}: {channel.label} is not used: {reason}")
    return usable


def _same_kind(first: Channel, second: Channel) -> bool:
    unit = known_unit(first.unit)
    same_unit = first.unit == second.unit or (unit is not None and unit == known_unit(second.unit))
    return same_unit and first.sample_rate == second.sample_rate


def _listing(labels: Iterable[str]) -> str:
    names = list(labels)
    if not names:
        return "no signal at all"
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


@functools.cache
def _table() -> tuple[dict[str, _Slot], tuple[_Convention, ...]]:
    import yaml

    text = resources.files("sleepfm.recordings").joinpath("channels.yaml").read_text("utf-8")
    plain: dict[str, Any] = yaml.safe_load(text)
    slots = {
        name: _Slot(
            min_hz=float(rules["min_hz"]),
            alias=frozenset(map(normalise, (*rules["alias"], *rules.get("turned", ())))),
            derive=tuple((normalise(a), normalise(b)) for a, b in rules["derive"]),
            substitute=tuple(map(normalise, rules["substitute"])),
            turned=frozenset(map(normalise, rules.get("turned", ()))),
            preferred=tuple(map(normalise, rules.get("preferred", ()))),
        )
        for name, rules in plain["slots"].items()
    }
    conventions = tuple(
        _Convention(
            cohort=c["cohort"],
            when=frozenset(map(normalise, c.get("when", ()))),
            unless=frozenset(map(normalise, c.get("unless", ()))),
            channels={normalise(k): v for k, v in c["channels"].items()},
            prefix=str(c.get("prefix", "")),
        )
        for c in plain["conventions"]
    )
    return slots, conventions
