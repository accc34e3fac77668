"""Scoring of PhysioNet's sleep databases: slpdb's ``.st``, CinC 2018's ``.arousal`` and ``.mat``.

Codes of ``.st``: https://physionet.org/content/slpdb/1.0.0/README.st.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.vocabulary import EPOCH_S, Annotation, Notes

_ST_STAGES: Final = {"W": "W", "1": "stage 1", "2": "stage 2", "3": "stage 3", "4": "stage 4",
                     "R": "R", "MT": "MT", "M": "MT"}  # fmt: skip
_ST_EVENTS: Final = {
    "H": ("hypopnea",),
    "HA": ("hypopnea", "arousal"),
    "OA": ("obstructive apnea",),
    "X": ("obstructive apnea", "arousal"),
    "CA": ("central apnea",),
    "CAA": ("central apnea", "arousal"),
    "L": ("leg movement",),
    "LA": ("leg movement", "arousal"),
    "A": ("arousal",),
}
_CINC_STAGES: Final = {"wake": "W", "nonrem1": "N1", "nonrem2": "N2", "nonrem3": "N3", "rem": "R",
                       "undefined": "undefined"}  # fmt: skip
_CINC_RATE: Final = 200.0


def read_st(path: Path) -> Notes:
    """Read slpdb's ``.st``: one mark per 30 s epoch, a stage and what happened in it.

    An event is known to its epoch and no closer, so it is given the epoch's whole length.

    Raises
    ------
    AnnotationError
        If it is no WFDB annotation file, or wfdb is not installed.
    """
    marks = _annotations(path)
    notes = []
    for onset, text in marks:
        for word in text.split():
            if word in _ST_STAGES:
                notes.append(Annotation(onset, EPOCH_S, _ST_STAGES[word]))
            notes += [Annotation(onset, EPOCH_S, event) for event in _ST_EVENTS.get(word, ())]
    if not notes:
        raise AnnotationError("holds no sleep stage of slpdb")
    return Notes(tuple(notes))


def read_arousal(path: Path) -> Notes:
    """Read CinC 2018's ``.arousal``: stages, and events from ``(name`` to ``name)``.

    Raises
    ------
    AnnotationError
        If it is no WFDB annotation file, or wfdb is not installed.
    """
    notes = []
    open_since: dict[str, float] = {}
    for onset, text in _annotations(path):
        if text.startswith("("):
            open_since.setdefault(text[1:], onset)
        elif text.endswith(")"):
            start = open_since.pop(text[:-1], None)
            if start is not None:
                notes.append(Annotation(start, onset - start, text[:-1]))
        else:
            notes.append(Annotation(onset, None, _CINC_STAGES.get(text, f"Sleep stage {text}")))
    if not notes:
        raise AnnotationError("holds no scoring")
    return Notes(tuple(notes))


def read_cinc_mat(path: Path) -> Notes:
    """Read CinC 2018's ``-arousal.mat``: one 0/1 track per stage at 200 Hz.

    Raises
    ------
    AnnotationError
        If it is no such file, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise AnnotationError("needs h5py: pip install 'sleepfm-index[wfdb]'") from error
    notes = []
    try:
        with h5py.File(path, "r") as file:
            tracks = file["data/sleep_stages"]
            for name, stage in _CINC_STAGES.items():
                if name not in tracks:
                    continue
                if tracks[name].size > 100 * 3600 * _CINC_RATE:
                    raise AnnotationError("is longer than any night")
                on = np.asarray(tracks[name]).ravel() > 0
                edges = np.flatnonzero(np.diff(np.r_[False, on, False])) / _CINC_RATE
                for start, end in edges.reshape(-1, 2).tolist():
                    notes.append(Annotation(start, end - start, stage))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnnotationError("is not an arousal file of CinC 2018") from error
    if not notes:
        raise AnnotationError("holds no sleep stage")
    return Notes(tuple(sorted(notes, key=lambda n: n.onset_s)))


def _annotations(path: Path) -> list[tuple[float, str]]:
    """Onset in seconds and text of every mark of a WFDB annotation file."""
    try:
        import wfdb
    except ImportError as error:
        raise AnnotationError("needs wfdb: pip install 'sleepfm-index[wfdb]'") from error
    record = path.with_suffix("")
    try:
        marks: Any = wfdb.rdann(str(record), path.suffix[1:])
        rate = marks.fs or wfdb.rdheader(str(record)).fs
        return [
            (float(sample / rate), text.rstrip("\0").strip())
            for sample, text in zip(marks.sample, marks.aux_note, strict=True)
        ]
    except Exception as error:  # wfdb raises whatever its parsing runs into
        raise AnnotationError("is not a WFDB annotation file with its header beside it") from error
