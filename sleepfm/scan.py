"""Dry run of a build over a cohort: channels, scoring and problems of each file.

Headers and scoring are read, but no signals.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sleepfm import process_pool
from sleepfm.choices import Coding
from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.contract import ROBUST, Contract
from sleepfm.errors import SleepFMError
from sleepfm.progress import Progress
from sleepfm.recordings import RecordingFile, find_recordings
from sleepfm.recordings.channel_names import normalise
from sleepfm.recordings.channels import (
    AmbiguousChannels,
    ChannelMap,
    match_channels,
)
from sleepfm.recordings.identifying_names import identifying_stem
from sleepfm.recordings.recording import Recording
from sleepfm.recordings.scoring.vocabulary import EPOCH_S
from sleepfm.resources import cores

_HINTS: Final = (
    ("CHEST", r"chest|thor|thx|rib|effort1"),
    ("ABD", r"abd|bauch|stomach"),
    ("SaO2", r"sao2|spo2|satur|oxi|o2sat|so2"),
    ("ECG", r"ecg|cardio"),
    ("E1-M2", r"^e1|eog.*l|l.*eog|lefteye"),
    ("C3-M2", r"c3"),
    ("C4-M1", r"c4"),
    ("O1-M2", r"o1"),
    ("O2-M1", r"^o2"),
    ("F3-M2", r"f3"),
    ("F4-M1", r"f4"),
    ("E2-M2", r"^e2|eog.*r|r.*eog|righteye"),
    ("CHIN", r"chin|ment|^emg"),
    ("LEGS", r"leg|tib|lat|rat"),
    ("ECG2", r"ecg"),
    ("PULSE", r"pleth|ppg|pulse"),
    ("THERM", r"therm|oral"),
    ("FLOW", r"flow|nasal|pres|ptaf"),
    ("SNORE", r"snor|mic"),
)
_MAX_WORDS: Final = 20
_FILES_PER_PROCESS: Final = 50
"""Number of files from which a further process saves more time than its start takes."""
_NOT_SIGNALS: Final = re.compile(r"imp|ref|status|stat|quality|rate|cal$", re.IGNORECASE)


@dataclass(frozen=True)
class FilledSlot:
    """Match of one slot of one file.

    Parameters
    ----------
    slot : str
        Name of the slot.
    tier : str
        Rule by which the channels were assigned.
    channels : tuple of str
        One channel name, or two, of which the second is subtracted.
    sample_rate : float
        Sampling rate of the channel, in Hz.
    unit : str
        Unit of the channel as written in the file.
    """

    slot: str
    tier: str
    channels: tuple[str, ...]
    sample_rate: float
    unit: str


@dataclass(frozen=True)
class FileScan:
    """Preview of one file.

    Parameters
    ----------
    file, id : str
        File name, and its recording id in a store.
    problem : str
        Reason why it cannot be built; empty if it can.
    format : str
        As in :class:`~sleepfm.recordings.recording.Recording`.
    duration_s : float
        Duration of the signals, in seconds.
    slots : tuple of FilledSlot
        The filled slots and their channels.
    unmatched : tuple of str
        Channels that are not used.
    scored_epochs : dict of str to float
        Number of scored 30 s epochs, by stage.
    events : dict of str to int
        Number of events, by type.
    warnings : tuple of str
        Warnings for the user.
    dropped : dict of str to int
        Number of annotations that are not stored, by reason.
    words : dict of str to int
        Unrecognised labels of the scoring and their counts, the most frequent first. They are shown
        on the user's machine, and never stored.
    unread : tuple of str
        Files that may be scoring of this recording but could not be used.
    """

    file: str
    id: str
    problem: str = ""
    format: str = ""
    duration_s: float = 0.0
    slots: tuple[FilledSlot, ...] = ()
    unmatched: tuple[str, ...] = ()
    scored_epochs: dict[str, float] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)
    words: dict[str, int] = field(default_factory=dict, repr=False)
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnmatchedName:
    """A channel name that is not used.

    Parameters
    ----------
    name : str
        Channel name.
    files : int
        Number of files that have it.
    fix : str
        Option that would use it; empty if there is none.
    """

    name: str
    files: int
    fix: str = ""


@dataclass(frozen=True)
class Scan:
    """Result of a dry run, by file and in total.

    Parameters
    ----------
    files : tuple of FileScan
        Every recording, in the order of a build.
    left_out : tuple of (str, str)
        Files that are not read, and the reason.
    slots_filled : dict of str to int
        Number of files in which each slot is filled.
    unmatched : tuple of UnmatchedName
        Channel names that are not used, the most frequent first.
    """

    files: tuple[FileScan, ...]
    left_out: tuple[tuple[str, str], ...]
    slots_filled: dict[str, int]
    unmatched: tuple[UnmatchedName, ...]

    @property
    def unscored(self) -> tuple[FileScan, ...]:
        """Recordings that can be built but have no stage and no event."""
        return tuple(f for f in self.files if not (f.problem or f.scored_epochs or f.events))


def scan(
    paths: Iterable[str | Path],
    contract: Contract = ROBUST,
    *,
    choices: Choices = NO_CHOICES,
    substitute: bool | None = None,
    overrides: str | Path | None = None,
    coding: Coding | None = None,
    epoch_s: float | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Preview every recording that a build of the same paths would read.

    Parameters
    ----------
    paths : iterable of str or Path
        Folders, globs, files, cohort lists.
    contract : Contract
        Defines the slots.
    choices : Choices
        Default options for reading recordings, such as those of a store
        (``store.manifest.choices``).
    substitute, overrides
        As for :func:`~sleepfm.recordings.channels.match_channels`.
    coding, epoch_s
        As for :func:`~sleepfm.recordings.read.read_recording`.
    workers : int, optional
        Number of processes; by default one for every 50 files, but not more than cores. The
        result does not depend on it.
    progress : callable, optional
        Called with (files done, files) after every file.

    Returns
    -------
    Scan
        The result, by file and in total.

    Raises
    ------
    RecordingError
        If a path does not exist or there is no recording. Problems of one file are in its
        :class:`FileScan`.
    """
    choices = choices.updated(
        contract, substitute=substitute, channels=overrides, coding=coding, epoch_s=epoch_s
    )
    found = find_recordings(paths)
    names = Counter(item.stem for item in found.recordings)
    files: list[FileScan] = []
    fixes: dict[str, str] = {}
    context = _Context(contract, choices)
    for item, (scanned, suggested) in zip(
        found.recordings, _scanned(found.recordings, context, workers), strict=True
    ):
        for fix in suggested:
            if fix.certain or fix.name not in fixes:
                fixes[fix.name] = fix.option
        if names[item.stem] > 1:
            warning = (
                f"{names[item.stem]} files would be named {item.stem}: build with --ids folder, "
            )
            warning += "or name them in a cohort list"
            scanned = replace(scanned, warnings=(warning, *scanned.warnings))
        files.append(scanned)
        if progress is not None:
            progress(len(files), len(found.recordings))
    filled = Counter(slot.slot for file in files for slot in file.slots)
    unmatched = Counter(name for file in files for name in file.unmatched)
    return Scan(
        files=tuple(files),
        left_out=tuple((item.path.name, item.reason) for item in found.left_out),
        slots_filled={s: filled[s] for s in contract.all_slots},
        unmatched=tuple(
            UnmatchedName(name, count, fixes.get(name, ""))
            for name, count in sorted(unmatched.items(), key=lambda pair: (-pair[1], pair[0]))
        ),
    )


@dataclass(frozen=True)
class _Context:
    contract: Contract
    choices: Choices


@dataclass(frozen=True)
class _Fix:
    """An option that would use a channel; a guess by its name yields to one that is certain."""

    name: str
    option: str
    certain: bool


def _scanned(
    items: Sequence[RecordingFile], context: _Context, workers: int | None
) -> Generator[tuple[FileScan, list[_Fix]]]:
    """Scan files in processes if there are many, and yield the results in order."""
    parallel = os.name == "posix"  # the processes are handed an open socket
    count = workers or (min(cores(), len(items) // _FILES_PER_PROCESS) if parallel else 1)
    if count <= 1:
        for item in items:
            yield _scan_file(context, item)
        return
    for item, result in zip(
        items, process_pool.results(_scan_file, context, items, count), strict=True
    ):
        if isinstance(result, process_pool.Died):
            yield FileScan(item.path.name, item.stem, f"cannot be scanned: {result.why}"), []
        else:
            yield result


def _scan_file(context: _Context, item: RecordingFile) -> tuple[FileScan, list[_Fix]]:
    contract, choices = context.contract, context.choices
    identifying = identifying_stem(item.stem)
    warnings = []
    if identifying:
        warnings.append(f"the name looks like {identifying}: consider --ids hash")
    recording = None
    fixes: list[_Fix] = []
    try:
        recording = choices.read(item.path, item.annotations)
        channels = match_channels(
            recording, contract, substitute=choices.substitute, overrides=choices.channels
        )
    except SleepFMError as error:
        labels = tuple(c.label for c in recording.channels) if recording else ()
        if isinstance(error, AmbiguousChannels):
            labels = tuple(
                dict.fromkeys(x for o in error.options.values() for pair in o for x in pair)
            )
            for slot, options in error.options.items():
                for name, *_rest in options:
                    option = f'--channels FILE with the line {slot}: "{name}"'
                    fixes.append(_Fix(name, option, certain=True))
        elif recording:
            fixes = _suggested(recording, ChannelMap({}, labels), contract)
        scanned = FileScan(
            item.path.name, item.stem, str(error), unmatched=labels, warnings=tuple(warnings)
        )
        return scanned, fixes
    except Exception as error:  # an unexpected error in one file must not stop the scan
        reason = f"unexpected {type(error).__name__}: {error}"
        return FileScan(item.path.name, item.stem, reason, warnings=tuple(warnings)), fixes
    fixes = _suggested(recording, channels, contract)
    by_label = {c.label: c for c in recording.channels}
    epochs: Counter[str] = Counter()
    for stage in recording.scoring.stages:
        epochs[stage.stage] += stage.duration_s / EPOCH_S  # type: ignore[assignment]
    scanned = FileScan(
        file=item.path.name,
        id=item.stem,
        format=recording.format,
        duration_s=recording.duration_s,
        slots=tuple(
            FilledSlot(
                slot=m.slot,
                tier=m.tier,
                channels=m.labels,
                sample_rate=by_label[m.labels[0]].sample_rate,
                unit=by_label[m.labels[0]].unit,
            )
            for m in channels.slots.values()
        ),
        unmatched=channels.unmatched,
        scored_epochs={stage: round(count, 2) for stage, count in epochs.items()},
        events=dict(Counter(e.type for e in recording.scoring.events)),
        warnings=(*warnings, *recording.warnings, *channels.warnings),
        dropped={str(r): n for r, n in recording.scoring.dropped.items()},
        words=dict(Counter(recording.scoring.words).most_common(_MAX_WORDS)),
        unread=recording.unread,
    )
    return scanned, fixes


def _suggested(recording: Recording, channels: ChannelMap, contract: Contract) -> list[_Fix]:
    """Return, for unused channels, the option or line of a channels file that would use them."""
    slots = contract.all_slots
    fixes = [
        _Fix(name, f"--substitute (stands in for {slot})", certain=True)
        for slot, names in channels.substitutes.items()
        for name in names
    ]
    known = {fix.name for fix in fixes}
    for name in channels.unmatched:
        if name in known or _NOT_SIGNALS.search(name):
            continue
        for slot, hint in _HINTS:
            if slot in slots and slot not in channels.slots and re.search(hint, normalise(name)):
                option = f'--channels FILE with the line {slot}: "{name}"'
                fixes.append(_Fix(name, option, certain=False))
                break
    return fixes
