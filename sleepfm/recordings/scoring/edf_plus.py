"""Scoring in a separate EDF+ file, as in Sleep-EDF, HMC, MASS and exports from Noxturnal."""

from __future__ import annotations

from pathlib import Path

from sleepfm.errors import AnnotationError, RecordingError
from sleepfm.recordings.edf_annotations import read_annotations
from sleepfm.recordings.edf_header import check, is_edf, start_of
from sleepfm.recordings.scoring.vocabulary import Notes, Scored


class EdfPlus:
    """EDF+ and BDF+ files with annotations."""

    endings: tuple[str, ...] = (".edf", ".bdf")

    def sniff(self, head: bytes) -> bool:
        """Return whether the file begins like EDF or BDF.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        return is_edf(head[:256])

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read the annotations of a file; see :class:`~.reader.ScoringReader`.

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
        warnings: list[str] = []
        try:
            file = check(path, warnings)
            annotations = read_annotations(file, warnings)
        except RecordingError as error:
            raise AnnotationError("is not a readable EDF+ file") from error
        clock, day = start_of(file, annotations.zero_s)
        return Notes(annotations.annotations, clock, day, {"unreadable": annotations.unreadable})
