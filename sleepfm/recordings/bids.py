"""Scoring of a BIDS dataset: names with the same entities, beside the signals or in derivatives.

Derivatives repeat the folders of the raw data below ``derivatives/PIPELINE/``
(https://bids-specification.readthedocs.io, "Derivatives"). The folder ``derivatives`` lies in the
dataset, or beside a dataset that is called ``rawdata``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sleepfm.recordings.folder_listing import folders_in, names_in
from sleepfm.recordings.scoring.sidecar import entities_of

_SUFFIXES: Final = (
    "events", "annotations", "annot", "scoring", "stages", "hypnogram", "sleepscoring",
)  # fmt: skip
_OPTIONAL: Final = ("acq", "desc", "rec", "recording", "space", "scoring", "scorer")
_RAW: Final = frozenset(("rawdata", "raw", "bids", "sourcedata"))
_MAX_PARENTS: Final = 4


def same_entities(recording_entities: dict[str, str], name: str) -> bool:
    """Return whether a name is that of scoring of the same subject, session, task and run.

    Parameters
    ----------
    recording_entities : dict of str to str
        Entities of the recording.
    name : str
        Name of a file that may be its scoring.

    Returns
    -------
    bool
    """
    entities, suffix = entities_of(name)
    if suffix not in _SUFFIXES or entities.get("sub") != recording_entities.get("sub"):
        return False
    common = (recording_entities.keys() & entities.keys()) - set(_OPTIONAL)
    return all(recording_entities[key] == entities[key] for key in common)


def derivative_folders(path: Path) -> Iterator[Path]:
    """Yield the folders of derivatives that may contain the scoring of a recording.

    Parameters
    ----------
    path : Path
        Signal file, ``.../sub-01/ses-1/eeg/sub-01_ses-1_task-sleep_eeg.edf``.

    Yields
    ------
    Path
        Folders with files, the closest match first: ``derivatives/PIPELINE/sub-01/ses-1/eeg``.
    """
    below: list[str] = []
    root = path.parent
    for _ in range(_MAX_PARENTS):
        below.insert(0, root.name)
        name, root = root.name, root.parent
        if name.startswith("sub-"):
            break
    else:
        return
    roots = [root, root.parent] if root.name.lower() in _RAW else [root]
    for derivatives in (folder / "derivatives" for folder in roots):
        for pipeline in (*folders_in(derivatives), derivatives):
            if pipeline.name.startswith("sub-"):
                continue
            for depth in range(len(below), -1, -1):
                folder = pipeline.joinpath(*below[:depth])
                if names_in(folder):
                    yield folder
