"""From channel names to slots, by the table in channels.yaml."""

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
from sleepfm.recordings.recording import Channel, Recording
from sleepfm.recordings.units import conversion, known_unit

Tier = Literal["alias", "derive", "substitute", "override"]

_NAMED: Final = 12


class AmbiguousChannels(ChannelError):
    """Two channels fit one slot in the same tier; ``options`` has the candidates of each slot.

    Parameters
    ----------
    stem : str
    options : dict of str to list of tuple of str
    """

    def __init__(self, stem: str, options: dict[str, list[tuple[str, ...]]]) -> None:
        self.options = options
        said = (
            f"{slot} could be {' and '.join(' minus '.join(labels) for labels in candidates)}"
            for slot, candidates in options.items()
        )
        super().__init__(
            f"channels of {stem} are ambiguous: {'; '.join(said)}; "
            "choose with a channels file (--channels)"
        )


@dataclass(frozen=True)
class SlotMatch:
    """Match of one slot: the channel (or difference of two), and the rule.

    ``turned``: the channel is the slot's derivation reversed (ECG2-ECG1); its sign is changed.
    """

    slot: str
    labels: tuple[str, ...]
    tier: Tier
    turned: bool = False


@dataclass(frozen=True)
class ChannelMap:
    """Slots that a recording fills, and what was left over.

    Parameters
    ----------
    slots : dict of str to SlotMatch
    unmatched : tuple of str
        Channel names that no slot took, in file order.
    warnings : tuple of str
        What a person should check, one sentence each.
    substitutes : dict of str to tuple of str
        For each empty slot, the channels that could stand in for it.
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


@dataclass(frozen=True)
class _Convention:
    cohort: str
    when: frozenset[str]
    unless: frozenset[str]
    channels: dict[str, str]
    prefix: str = ""


def is_voltage(label: str) -> bool:
    """Return whether a name can be a voltage: False for names that only a belt or a saturation has.

    Parameters
    ----------
    label : str
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
    """Fill the slots of a contract from the channels of a recording.

    Parameters
    ----------
    recording : Recording
        Only names, units and rates are looked at; no signal is read.
    contract : Contract
    substitute : bool
        Whether another derivation or sensor may stand in; of several, the first of the table does.
    overrides : Path or mapping, optional
        A YAML file, or :func:`read_overrides` of one: ``slot: label``, ``slot: [plus, minus]`` or
        ``slot: null`` (empty). It wins over the table where the recording has those labels.

    Raises
    ------
    ChannelError
        If two channels fit one slot in the same tier (:class:`AmbiguousChannels`), if no slot can
        be filled, or if the overrides cannot be read.
    """
    wanted = contract.all_slots
    chosen: Mapping[str, tuple[str, ...]] = {}
    if overrides is not None:
        chosen = read_overrides(overrides, wanted) if isinstance(overrides, Path) else overrides
    table, conventions = _table()
    found: dict[str, SlotMatch] = {}
    stand_ins: dict[str, tuple[str, ...]] = {}
    conflicts: dict[str, list[tuple[str, ...]]] = {}
    warnings: list[str] = []
    by_label = {c.label: c for c in recording.channels}
    for slot in wanted:
        if slot in chosen and _override(slot, chosen[slot], by_label, found, warnings):
            continue
        rules = table.get(slot) or _Slot(0.0, frozenset({normalise(slot)}), (), ())
        usable = _usable(recording.channels, slot, contract.unit_of(slot), rules, warnings)
        options = _options(slot, rules, usable, conventions, recording, warnings)
        tier, candidates = next(((t, c) for t, c in options if c), ("alias", []))
        subs = _stand_ins(slot, rules, usable, _named(table, wanted, slot))
        if len(candidates) > 1:
            conflicts[slot] = candidates
        elif candidates:
            turned = normalise(candidates[0][0]) in rules.turned and len(candidates[0]) == 1
            found[slot] = SlotMatch(slot, candidates[0], tier, turned)
            if turned:
                warnings.append(f"{slot}: {candidates[0][0]} is inverted: its sign is changed")
        elif subs and substitute:
            found[slot] = SlotMatch(slot, (subs[0],), "substitute")
            if len(subs) > 1:
                warnings.append(
                    f"{slot}: {subs[0]} is substituted, preferred to {_listed(subs[1:])} by the "
                    "order of the table"
                )
        elif subs:
            stand_ins[slot] = tuple(subs)
    if conflicts:
        raise AmbiguousChannels(recording.stem, conflicts)
    if not found:
        said = "; ".join(f"{slot} from {subs[0]}" for slot, subs in stand_ins.items())
        use = f"--substitute would fill {said}; or name" if stand_ins else "Name"
        raise ChannelError(
            f"{recording.stem} has no usable channel; it holds {_listed(by_label)}. "
            f"{use} them in a channels file (--channels)"
        )
    used = {label for match in found.values() for label in match.labels}
    return ChannelMap(
        slots=found,
        unmatched=tuple(label for label in by_label if label not in used),
        warnings=tuple(dict.fromkeys(warnings)),
        substitutes=stand_ins,
    )


def _named(table: Mapping[str, _Slot], wanted: Sequence[str], slot: str) -> frozenset[str]:
    """Names that belong to another slot of the contract, so that they stand in for none."""
    return frozenset().union(*(table[s].alias for s in wanted if s != slot and s in table))


def read_overrides(path: Path, slots: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read a channels file (YAML): for each slot one label, two (plus, minus), or none.

    Parameters
    ----------
    path : Path
    slots : sequence of str
        Names of the slots that exist.

    Raises
    ------
    ChannelError
        If the file cannot be read, or names a slot that does not exist.
    """
    import yaml

    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ChannelError(f"the channels file {path.name} cannot be read as YAML") from error
    if not isinstance(plain, dict):
        raise ChannelError(f"the channels file {path.name} must hold lines like 'ECG: my label'")
    chosen: dict[str, tuple[str, ...]] = {}
    for slot, value in plain.items():
        if slot not in slots:
            raise ChannelError(
                f"the channels file {path.name} names a slot '{slot}'; slots are {', '.join(slots)}"
            )
        labels = [] if value is None else value if isinstance(value, list) else [value]
        if len(labels) > 2 or not all(isinstance(x, str | int) for x in labels):
            raise ChannelError(
                f"the channels file {path.name} must give {slot} one label, or two to subtract"
            )
        chosen[slot] = tuple(map(str, labels))
    return chosen


def _override(
    slot: str,
    labels: tuple[str, ...],
    by_label: Mapping[str, Channel],
    found: dict[str, SlotMatch],
    warnings: list[str],
) -> bool:
    """Apply one line of the channels file; False where this recording lacks those labels."""
    missing = [label for label in labels if label not in by_label]
    if missing:
        warnings.append(
            f"{slot}: the channels file names {_listed(missing)}, not in this recording"
        )
        return False
    if len(labels) == 2 and not _same_kind(by_label[labels[0]], by_label[labels[1]]):
        raise ChannelError(
            f"{slot} cannot be {labels[0]} minus {labels[1]}: their units or rates differ"
        )
    if labels:
        found[slot] = SlotMatch(slot, labels, "override")
    return True


def _options(
    slot: str,
    rules: _Slot,
    usable: Sequence[Channel],
    conventions: Sequence[_Convention],
    recording: Recording,
    warnings: list[str],
) -> list[tuple[Tier, list[tuple[str, ...]]]]:
    """Candidates tier by tier: names, names settled by a cohort, differences."""
    options: list[tuple[Tier, list[tuple[str, ...]]]] = []
    alias = [(c.label,) for c in usable if normalise(c.label) in rules.alias]
    options.append(("alias", list(alias)))
    pairs: list[tuple[str, ...]] = []
    for plus, minus in (
        *rules.derive,
        *shared_references(slot, [normalise(c.label) for c in usable]),
    ):
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
    # By one reference or another the difference is the same; the first of the table is taken.
    bare = {normalise(p[0]) for p in pairs}
    one = len(bare) > 1 or len({p[0] for p in pairs}) == 1
    options.append(("derive", pairs[:1] if one else pairs))
    if not alias and not pairs:
        present = {normalise(c.label) for c in recording.channels}
        for convention in conventions:
            if not convention.when <= present or convention.unless & present:
                continue
            if convention.prefix and not all(
                c.label.startswith(convention.prefix) for c in recording.channels
            ):
                continue
            hits = [c for c in usable if convention.channels.get(normalise(c.label)) == slot]
            options.append(("alias", [(c.label,) for c in hits]))
            warnings.extend(
                f"{c.label} has no derivation in its label; assumed {slot} as in "
                f"{convention.cohort}"
                for c in hits
            )
            if hits:
                break
    return options


def _stand_ins(
    slot: str, rules: _Slot, usable: Sequence[Channel], others: frozenset[str]
) -> list[str]:
    """Channels that could stand in for a slot: the table's, then any with its electrode (C3-O1)."""
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
    channels: Sequence[Channel], slot: str, wanted: str, rules: _Slot, warnings: list[str]
) -> list[Channel]:
    """Channels whose rate and unit do not rule them out for a slot."""
    usable = []
    for channel in channels:
        unit = known_unit(channel.unit)
        reason = ""
        if channel.sample_rate < rules.min_hz:
            reason = f"{channel.sample_rate:g} Hz is too slow"
        elif (
            unit is not None
            and conversion(channel.unit, wanted) is None
            # Whole montages are exported in uV; a saturation is told by its values.
            and not (wanted == "%" and conversion(channel.unit, "uV") is not None)
        ):
            reason = f"its unit is {unit}"
        if not reason:
            usable.append(channel)
        elif normalise(channel.label) in rules.alias:
            warnings.append(f"{slot}: {channel.label} is not used: {reason}")
    return usable


def _same_kind(first: Channel, second: Channel) -> bool:
    same_unit = first.unit == second.unit or (
        known_unit(first.unit) is not None and known_unit(first.unit) == known_unit(second.unit)
    )
    return same_unit and first.sample_rate == second.sample_rate


def _listed(labels: Iterable[str]) -> str:
    names = list(labels)
    if not names:
        return "no signal at all"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


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
