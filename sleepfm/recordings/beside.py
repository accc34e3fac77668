"""Finding the scoring files of a recording.

They share its stem (``n.edf`` and ``n-nsrr.xml``), or its stem without a word that only signals
have (``01 PSG.edf`` and ``01 Annotations.edf``), or its BIDS entities; and lie beside it, in a
folder of annotations below it, or in one that runs parallel to its own (``edfs/`` and
``annotations-events-nsrr/``).
"""

from __future__ import annotations

import functools
import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sleepfm.recordings.edf import is_annotations_only
from sleepfm.recordings.scoring.formats import ENDINGS
from sleepfm.recordings.scoring.predicted import ENDINGS as PREDICTED
from sleepfm.recordings.scoring.sidecar import entities_of
from sleepfm.recordings.scoring.stage_words import plain
from sleepfm.recordings.signals import SIGNAL_ENDINGS, signal_stem

_WORDS: Final = frozenset(
    [
        "nsrr",
        "profusion",
        "stg",
        "sco",
        "allscore",
        "hypnogram",
        "hypnograms",
        "hypno",
        "hyp",
        "stage",
        "stages",
        "staging",
        "sleep",
        "sleepstage",
        "sleepstages",
        "sleepscoring",
        "scoring",
        "scored",
        "score",
        "scores",
        "event",
        "events",
        "evts",
        "edf",
        "profile",
        "flow",
        "classification",
        "klassifizierte",
        "hypnogramm",
        "hypnogramme",
        "hypnogramma",
        "ipnogramma",
        "hipnograma",
        "schlafstadien",
        "ereignisse",
        "evenements",
        "eventi",
        "eventos",
        "annotation",
        "annotations",
        "annot",
        "annots",
        "arousal",
        "arousals",
        "psg",
        "xml",
        "respevt",
        "resp",
        "respiratory",
        "base",
        "label",
        "labels",
        "expert",
        "consensus",
        "aasm",
        "manual",
        "final",
        "export",
        "remlogic",
        "domino",
        "csv",
        "tsv",
        "txt",
        "rml",
        "sta",
        "apnea",
        "apneas",
        "schlafprofil",
        "plm",
        "spo2",
        "desaturations",
    ]
)
_SIGNAL_WORDS: Final = re.compile(
    r"[\s._-]+(psg|edf|rec|signals?|raw|eeg|ieeg|meg|recording|polysomnography)$", re.IGNORECASE
)
_SLEEP_EDF: Final = re.compile(r"^(S[CT]\d{4})[A-Z0-9]{2}-(PSG|Hypnogram)$", re.IGNORECASE)
_BEFORE: Final = re.compile(
    r"^(hypnogram(?:aasm|r&k|_?rk)?|hypno|scoring|stages?|annotations?|events?)[\s._-]+$",
    re.IGNORECASE,
)
_FOLDERS: Final = re.compile(
    r"annot|scor|hypno|stag|event|label|xml|analysedaten|analysis data|^(?:csv|tsv|txt)s?$",
    re.IGNORECASE,
)
_SIGNAL_FOLDERS: Final = re.compile(
    r"^(?:edfs?|bdfs?|psgs?|signals?|recordings?|raw|data|eeg|polysomnograph(?:y|ies))(?:[\W_].*)?$",
    re.IGNORECASE,
)
_OWN_FOLDER: Final = re.compile(
    r"^(?:schlafprofil|sleep ?profile|hypnogram|flow ?events?|arousals?|klassifizierte arousals|"
    r"classification arousals|plm(?: events?)?|(?:spo2|sao2|desaturation)s?(?: events?)?|"
    r"apnea events?|respiratory events?|csv_hypnogram|csv_events)(?: - .*)?$",
    re.IGNORECASE,
)
_PARTS: Final = (
    ".dat",
    ".eeg",
    ".vmrk",
    ".fdt",
    ".json",
    ".atr",
    ".png",
    ".jpg",
    ".pdf",
    ".md5",
    ".log.txt",
)
_NOT_SCORING: Final = re.compile(
    r"(channels|electrodes|scans|sessions|participants|coordsystem)$", re.IGNORECASE
)
_BIDS_SUFFIXES: Final = (
    "events", "annotations", "annot", "scoring", "stages", "hypnogram", "sleepscoring",
)  # fmt: skip
_BIDS_FREE: Final = ("acq", "desc", "rec", "recording", "space", "scoring", "scorer")
_UP: Final = 4
_MOST_LOOKALIKES: Final = 5


def find_annotations(path: Path) -> tuple[Path, ...]:
    """Scoring files of a recording, the preferred one first.

    Parameters
    ----------
    path : Path
        The signal file.
    """
    found: dict[Path, None] = {}
    for folder, names in _folders(path):
        for name in _candidates(path, folder, names):
            found.setdefault(folder / name)
    return tuple(sorted(found, key=lambda p: (p.parent != path.parent, _rank(p), p.name)))


def find_lookalikes(path: Path) -> tuple[str, ...]:
    """Name the files beside a recording that may be its scoring and that no reader takes.

    Parameters
    ----------
    path : Path
        Signal file.

    Returns
    -------
    tuple of str
        Names without folders, cut to the first few.
    """
    known = {p.name for p in find_annotations(path)}
    stem = _SIGNAL_WORDS.sub("", signal_stem(path))
    found = []
    no_scoring = (*_PARTS, *SIGNAL_ENDINGS, *PREDICTED)
    for lower, name in _lowered(str(path.parent), _changed(path.parent), stem.lower()):
        if name in known or name == path.name or lower.endswith(no_scoring):
            continue
        base = name[len(stem) :].partition(".")[0]
        if _NOT_SCORING.search(name.partition(".")[0]) or re.match(r"[a-zA-Z0-9]", base):
            continue
        found.append(name)
    return tuple(found[:_MOST_LOOKALIKES])


def _candidates(path: Path, folder: Path, names: tuple[str, ...]) -> Iterator[str]:
    stem = signal_stem(path)
    core = _SIGNAL_WORDS.sub("", stem)
    own = folder == path.parent
    pair = _SLEEP_EDF.match(stem)
    bids = entities_of(path.name)[0] if stem.startswith("sub-") else {}
    begin = f"sub-{bids['sub']}_" if "sub" in bids else pair.group(1) if pair else core
    before = [n for n in names if _is_before(n.rpartition(".")[0], stem)]
    single = (own and _only_recording(folder)) or (not own and folder.parent == path.parent
                                                 and _only_recording(path.parent))  # fmt: skip
    alone = [n for n in names if _OWN_FOLDER.match(n.rpartition(".")[0])] if single else []
    for name in dict.fromkeys([*_starting(names, begin), *before, *alone]):
        lower = name.lower()
        if (own and name == path.name) or not lower.endswith(ENDINGS) or lower.endswith(PREDICTED):
            continue
        base = _base(name)
        if not (
            name in alone
            or (bids and _same_bids(bids, name))
            or (pair and _is_pair(pair, base))
            or name in before
            or any(_belongs(base, start) for start in {stem, core})
        ):
            continue
        signals = lower.endswith((".mat", ".edf", ".bdf", ".h5", ".hdf5"))
        if signals and base == stem:
            continue  # the signal itself, or its other form
        if not (folder / name).is_file():
            continue
        if lower.endswith((".edf", ".bdf")) and not is_annotations_only(folder / name):
            continue
        yield name


def _belongs(base: str, stem: str) -> bool:
    """Whether a name is a stem and words of scoring: ``n_hypno_30s``, ``n.allscore``, ``n_1``."""
    if not base.startswith(stem):
        return False
    rest = base[len(stem) :].lower()
    if not rest:
        return True
    parts = [part for part in re.split(r"[\s._()-]+", plain(rest)) if part]
    parted = rest[0] in " ._-"
    return all(
        part in _WORDS or (parted and (part == "1" or re.fullmatch(r"\d+s", part)))
        for part in parts
    )


def _is_before(base: str, stem: str) -> bool:
    """Whether a name is words of scoring and a stem: ``HypnogramAASM_subject1``."""
    return base.endswith(stem) and _BEFORE.match(base[: len(base) - len(stem)]) is not None


def _is_pair(pair: re.Match[str], base: str) -> bool:
    match = _SLEEP_EDF.match(base)
    return match is not None and match.group(1) == pair.group(1) and match.group(2) != pair.group(2)


def _same_bids(own: dict[str, str], name: str) -> bool:
    entities, suffix = entities_of(name)
    if suffix not in _BIDS_SUFFIXES or entities.get("sub") != own.get("sub"):
        return False
    common = (own.keys() & entities.keys()) - set(_BIDS_FREE)
    return all(own[key] == entities[key] for key in common)


def _rank(path: Path) -> tuple[int, int]:
    """Order candidates by ending, one whose name says that it is scoring first."""
    lower = path.name.lower()
    ending = next(i for i, e in enumerate(ENDINGS) if lower.endswith(e))
    return ending, 0 if re.search(r"scor|hypno|stag|aasm|nsrr", lower) else 1


def _base(name: str) -> str:
    ending = next(e for e in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(e))
    if ending.startswith("_"):  # "_respevt.txt": the word belongs to the base
        return name.rpartition(".")[0]
    return name[: -len(ending)]


def _folders(path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Folders that may hold the scoring of a recording, with the names in them."""
    own = path.parent
    names = _names(own)
    yield own, names
    for child in _annotation_folders(own):
        yield child, _names(child)
    below: list[str] = []
    place = own
    for _ in range(_UP):
        if place.parent == place:
            return
        below.insert(0, place.name)
        parallel = _annotation_folders(place.parent) if _SIGNAL_FOLDERS.match(place.name) else ()
        for sibling in parallel:
            if sibling == place:
                continue
            for inner in (sibling.joinpath(*below[1:]), sibling):
                found = _names(inner)
                if found:
                    yield inner, found
        place = place.parent


def _annotation_folders(folder: Path) -> tuple[Path, ...]:
    return _folders_in(str(folder), _changed(folder))


@functools.lru_cache(maxsize=256)
def _folders_in(folder: str, changed: int) -> tuple[Path, ...]:
    try:
        with os.scandir(folder) as entries:
            fitting = [e.name for e in entries if _FOLDERS.search(e.name) and e.is_dir()]
    except OSError:
        return ()
    return tuple(Path(folder, name) for name in sorted(fitting))


def _names(folder: Path) -> tuple[str, ...]:
    return _names_in(str(folder), _changed(folder))


def _lowered(folder: str, changed: int, start: str) -> list[tuple[str, str]]:
    """Names that begin with a word in any case, with their lower case before them."""
    names = _lower_names_in(folder, changed)
    at = bisect_left(names, (start, ""))
    found = []
    while at < len(names) and names[at][0].startswith(start):
        found.append(names[at])
        at += 1
    return found


@functools.lru_cache(maxsize=256)
def _lower_names_in(folder: str, changed: int) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name.lower(), name) for name in _names_in(folder, changed)))


@functools.lru_cache(maxsize=256)
def _names_in(folder: str, changed: int) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(folder)))  # noqa: PTH208, a cohort's folder is listed often
    except OSError:
        return ()


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _starting(names: tuple[str, ...], start: str) -> list[str]:
    at = bisect_left(names, start)
    found = []
    while at < len(names) and names[at].startswith(start):
        found.append(names[at])
        at += 1
    return found


def _only_recording(folder: Path) -> bool:
    signals = [n for n in _names(folder) if n.lower().endswith(SIGNAL_ENDINGS)]
    return len(signals) == 1
