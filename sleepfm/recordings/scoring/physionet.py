"""Scoring of PhysioNet's sleep databases: slpdb's ``.st``, CinC 2018's ``.arousal`` and ``.mat``.

Codes of ``.st``: https://physionet.org/content/slpdb/1.0.0/README.st.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np

from sleepfm.errors import AnnotationError
from sleepfm.recordings.named_files import ForeignContentError, check_hdf5
from sleepfm.recordings.scoring.vocabulary import EPOCH_S, Annotation, Notes, Reason, Scored
from sleepfm.recordings.wfdb import readable

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
_MAX_CHANGES: Final = 1 << 17
_CINC_RATE: Final = 200.0


class SlpdbMarks:
    """slpdb's ``.st``: one mark per 30 s epoch, with its stage and events.

    The time of an event is known only to the epoch, so an event spans the whole epoch.
    """

    endings: tuple[str, ...] = (".st",)

    def sniff(self, head: bytes) -> bool:
        """Accept every file with this extension.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        return True

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a file; see :class:`~.reader.ScoringReader`.

        Parameters
        ----------
        path : Path
            Scoring file.
        scored : Scored
            The signals that it scores.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.
        """
        if path.name.lower().endswith(".edf.st"):
            raise AnnotationError(
                "repeats the scoring of the CAP Sleep Database in WFDB form, which is not read; "
                "put the .txt of the same name from PhysioNet (capslpdb) next to the recording"
            )
        notes = []
        dropped: Counter[Reason] = Counter()
        for onset, text in _annotations(path):
            for word in text.split():
                if word in _ST_STAGES:
                    notes.append(Annotation(onset, EPOCH_S, _ST_STAGES[word]))
                dropped["unknown word"] += word not in _ST_STAGES and word not in _ST_EVENTS
                notes += [Annotation(onset, EPOCH_S, event) for event in _ST_EVENTS.get(word, ())]
        if not notes:
            raise AnnotationError("holds no sleep stage of slpdb")
        return Notes(tuple(notes), dropped=dropped)


class CincArousals:
    """CinC 2018's ``.arousal``: changes of stage, and events from ``(name`` to ``name)``."""

    endings: tuple[str, ...] = (".arousal",)

    def sniff(self, head: bytes) -> bool:
        """Accept every file with this extension.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        return True

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a file; see :class:`~.reader.ScoringReader`.

        Parameters
        ----------
        path : Path
            Scoring file.
        scored : Scored
            The signals that it scores.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.
        """
        notes = []
        dropped: Counter[Reason] = Counter()
        open_since: dict[str, float] = {}
        for onset, text in _annotations(path):
            if text.startswith("("):
                open_since.setdefault(text[1:], onset)
            elif text.endswith(")"):
                start = open_since.pop(text[:-1], None)
                if start is None:
                    dropped["no time"] += 1
                else:
                    notes.append(Annotation(start, onset - start, text[:-1]))
            else:
                word = _CINC_STAGES.get(text, f"Sleep stage {text}")
                notes.append(Annotation(onset, None, word, "stage"))
        dropped["no duration"] += len(open_since)
        if not notes:
            raise AnnotationError("holds no scoring")
        return Notes(tuple(notes), dropped=dropped)


class CincTracks:
    """CinC 2018's ``-arousal.mat``: one 0/1 track per stage at 200 Hz."""

    endings: tuple[str, ...] = (".mat",)

    def sniff(self, head: bytes) -> bool:
        """Accept every file with this extension.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        return True

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a file; see :class:`~.reader.ScoringReader`.

        Parameters
        ----------
        path : Path
            Scoring file.
        scored : Scored
            The signals that it scores.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.
        """
        try:
            import h5py
        except ImportError as error:
            raise AnnotationError("needs h5py: pip install 'sleepfm-index[wfdb]'") from error
        notes = []
        try:
            with h5py.File(path, "r") as file:
                check_hdf5(file)
                tracks = file["data/sleep_stages"]
                for name, stage in _CINC_STAGES.items():
                    if name not in tracks:
                        continue
                    size = tracks[name].size * tracks[name].dtype.itemsize
                    if size > 8 * 100 * 3600 * _CINC_RATE:
                        raise AnnotationError("is longer than any night")
                    active = np.asarray(tracks[name]).ravel() > 0
                    edges = np.flatnonzero(np.diff(np.r_[False, active, False])) / _CINC_RATE
                    if len(edges) > _MAX_CHANGES:
                        raise AnnotationError("changes its stage more often than any night")
                    for start, end in edges.reshape(-1, 2).tolist():
                        notes.append(Annotation(start, end - start, stage))
        except ForeignContentError as error:
            raise AnnotationError(str(error)) from error
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise AnnotationError("is not an arousal file of CinC 2018") from error
        if not notes:
            raise AnnotationError("holds no sleep stage")
        return Notes(tuple(sorted(notes, key=lambda n: n.onset_s)))


def _annotations(path: Path) -> list[tuple[float, str]]:
    """Return onset in seconds and text of every mark in a WFDB annotation file."""
    try:
        import wfdb
    except ImportError as error:
        raise AnnotationError("needs wfdb: pip install 'sleepfm-index[wfdb]'") from error
    header = path.with_suffix(".hea")
    try:
        with readable(header) as record:
            marks: Any = wfdb.rdann(record, path.suffix[1:])
            rate = marks.fs or wfdb.rdheader(record).fs
        return [
            (float(sample / rate), text.rstrip("\0").strip())
            for sample, text in zip(marks.sample, marks.aux_note, strict=True)
        ]
    except Exception as error:  # wfdb raises many types of exception
        raise AnnotationError("is not a WFDB annotation file with its header next to it") from error
