"""Finding the scoring files of a recording.

A scoring file has the stem of the recording (``n.edf`` and ``n-nsrr.xml``), or the stem without a
word for signals (``01 PSG.edf`` and ``01 Annotations.edf``), or the same BIDS entities. It is in
the folder of the recording, in a subfolder of annotations, in a parallel folder (``edfs/`` and
``annotations-events-nsrr/``), or in the derivatives of a BIDS dataset.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sleepfm.recordings.bids import derivative_folders, same_entities
from sleepfm.recordings.edf import is_annotations_only
from sleepfm.recordings.folder_listing import changed, folders_in, names_in
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
_LEADING_WORDS: Final = re.compile(
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
_FIXED_NAMES: Final = re.compile(
    r"^(?:schlafprofil|sleep ?profile|hypnogram|flow ?events?|arousals?|klassifizierte arousals|"
    r"classification arousals|plm(?: events?)?|(?:spo2|sao2|desaturation)s?(?: events?)?|"
    r"apnea events?|respiratory events?|csv_hypnogram|csv_events)(?: - .*)?$",
    re.IGNORECASE,
)
_NOT_SCORING_ENDINGS: Final = (
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
_NOT_SCORING_NAMES: Final = re.compile(
    r"(channels|electrodes|scans|sessions|participants|coordsystem)$", re.IGNORECASE
)
_MAX_PARENTS: Final = 4
_MAX_LOOKALIKES: Final = 5


def find_annotations(path: Path) -> tuple[Path, ...]:
    """Find the scoring files of a recording.

    Parameters
    ----------
    path : Path
        Signal file.

    Returns
    -------
    tuple of Path
        Scoring files, the preferred one first.
    """
    found: dict[Path, None] = {}
    for folder, names in _folders(path):
        for name in _candidates(path, folder, names):
            found.setdefault(folder / name)
    for mark in [p for p in found if p.name.lower().endswith(".edf.st")]:
        if mark.with_name(f"{signal_stem(path)}.txt") in found:
            del found[mark]  # the CAP Sleep Database has the same scoring in both
    return tuple(sorted(found, key=lambda p: (p.parent != path.parent, _rank(p), p.name)))


def find_lookalikes(path: Path) -> tuple[str, ...]:
    """Find files next to a recording that may be its scoring but are not in a supported format.

    Parameters
    ----------
    path : Path
        Signal file.

    Returns
    -------
    tuple of str
        At most five file names, without folders.
    """
    known = {p.name for p in find_annotations(path)}
    stem = _SIGNAL_WORDS.sub("", signal_stem(path))
    lookalikes = []
    excluded = (*_NOT_SCORING_ENDINGS, *SIGNAL_ENDINGS, *PREDICTED)
    for lower, name in _names_with_prefix(str(path.parent), changed(path.parent), stem.lower()):
        if name in known or name == path.name or lower.endswith(excluded):
            continue
        base = name[len(stem) :].partition(".")[0]
        if _NOT_SCORING_NAMES.search(name.partition(".")[0]) or re.match(r"[a-zA-Z0-9]", base):
            continue
        lookalikes.append(name)
    return tuple(lookalikes[:_MAX_LOOKALIKES])


def _candidates(path: Path, folder: Path, names: tuple[str, ...]) -> Iterator[str]:
    stem = signal_stem(path)
    core = _SIGNAL_WORDS.sub("", stem)
    same_folder = folder == path.parent
    pair = _SLEEP_EDF.match(stem)
    bids = entities_of(path.name)[0] if stem.startswith("sub-") else {}
    prefix = f"sub-{bids['sub']}_" if "sub" in bids else pair.group(1) if pair else core
    leading = [n for n in names if _has_leading_words(n.rpartition(".")[0], stem)]
    if same_folder:
        single = _only_recording(folder)
    else:
        single = folder.parent == path.parent and _only_recording(path.parent)
    fixed = [n for n in names if _FIXED_NAMES.match(n.rpartition(".")[0])] if single else []
    for name in dict.fromkeys([*_with_prefix(names, prefix), *leading, *fixed]):
        lower = name.lower()
        if (
            (same_folder and name == path.name)
            or not lower.endswith(ENDINGS)
            or lower.endswith(PREDICTED)
        ):
            continue
        base = _base(name)
        if not (
            name in fixed
            or (bids and same_entities(bids, name))
            or (pair and _is_pair(pair, base))
            or name in leading
            or any(_belongs(base, start) for start in {stem, core})
        ):
            continue
        signals = lower.endswith((".mat", ".edf", ".bdf", ".h5", ".hdf5"))
        if signals and base == stem:
            continue  # the signal file itself, or the recording in another format
        if not (folder / name).is_file():
            continue
        if lower.endswith((".edf", ".bdf")) and not is_annotations_only(folder / name):
            continue
        yield name


def _belongs(base: str, stem: str) -> bool:
    """Return whether a name is a stem with scoring words: ``n_hypno_30s``, ``n.allscore``."""
    if not base.startswith(stem):
        return False
    suffix = base[len(stem) :].lower()
    if not suffix:
        return True
    parts = [part for part in re.split(r"[\s._()-]+", plain(suffix)) if part]
    separated = suffix[0] in " ._-"
    return all(
        part in _WORDS or (separated and (part == "1" or re.fullmatch(r"\d+s", part)))
        for part in parts
    )


def _has_leading_words(base: str, stem: str) -> bool:
    """Return whether a name is scoring words before a stem: ``HypnogramAASM_subject1``."""
    return base.endswith(stem) and _LEADING_WORDS.match(base[: len(base) - len(stem)]) is not None


def _is_pair(pair: re.Match[str], base: str) -> bool:
    match = _SLEEP_EDF.match(base)
    return match is not None and match.group(1) == pair.group(1) and match.group(2) != pair.group(2)


def _rank(path: Path) -> tuple[int, int]:
    """Sort key of scoring files: by extension, then names that contain a word for scoring."""
    lower = path.name.lower()
    ending = next(i for i, e in enumerate(ENDINGS) if lower.endswith(e))
    return ending, 0 if re.search(r"scor|hypno|stag|aasm|nsrr", lower) else 1


def _base(name: str) -> str:
    ending = next(e for e in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(e))
    if ending.startswith("_"):  # "_respevt.txt": the word is part of the base
        return name.rpartition(".")[0]
    return name[: -len(ending)]


def _folders(path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield the folders that may contain the scoring of a recording, with their file names."""
    folder = path.parent
    names = names_in(folder)
    yield folder, names
    for child in (*_annotation_folders(folder), *derivative_folders(path)):
        yield child, names_in(child)
    below: list[str] = []
    ancestor = folder
    for _ in range(_MAX_PARENTS):
        if ancestor.parent == ancestor:
            return
        below.insert(0, ancestor.name)
        parallel = (
            _annotation_folders(ancestor.parent) if _SIGNAL_FOLDERS.match(ancestor.name) else ()
        )
        for sibling in parallel:
            if sibling == ancestor:
                continue
            for inner in (sibling.joinpath(*below[1:]), sibling):
                inner_names = names_in(inner)
                if inner_names:
                    yield inner, inner_names
        ancestor = ancestor.parent


def _annotation_folders(folder: Path) -> tuple[Path, ...]:
    return _annotation_folders_in(folder, changed(folder))


@functools.lru_cache(maxsize=256)
def _annotation_folders_in(folder: Path, changed: int) -> tuple[Path, ...]:
    return tuple(f for f in folders_in(folder) if _FOLDERS.search(f.name))


def _names_with_prefix(folder: str, changed: int, prefix: str) -> list[tuple[str, str]]:
    """Return names with a prefix, ignoring case, as pairs of lower-case and original name."""
    names = _lower_names_in(folder, changed)
    index = bisect_left(names, (prefix, ""))
    matching = []
    while index < len(names) and names[index][0].startswith(prefix):
        matching.append(names[index])
        index += 1
    return matching


@functools.lru_cache(maxsize=256)
def _lower_names_in(folder: str, changed: int) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name.lower(), name) for name in names_in(Path(folder))))


def _with_prefix(names: tuple[str, ...], prefix: str) -> list[str]:
    index = bisect_left(names, prefix)
    matching = []
    while index < len(names) and names[index].startswith(prefix):
        matching.append(names[index])
        index += 1
    return matching


def _only_recording(folder: Path) -> bool:
    signals = [n for n in names_in(folder) if n.lower().endswith(SIGNAL_ENDINGS)]
    return len(signals) == 1
