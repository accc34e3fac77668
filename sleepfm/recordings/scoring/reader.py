"""Interface of readers of scoring formats.

A new format is one file with a class of these three things, and one line in
:data:`~sleepfm.recordings.scoring.formats.READERS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sleepfm.recordings.scoring.vocabulary import Notes, Scored


class ScoringReader(Protocol):
    """Reads scoring files of one format.

    Conventions that hold for every reader:

    - Onsets are seconds. They count from the start of the signals, or from the time of day that the
      reader gives as ``start_clock_s`` (with ``start_day``, if the file has a date); aligning the
      two is not the reader's business.
    - ``duration_s`` is None where the file gives none. A reader invents no length: only a format
      that states its epochs gives them one.
    - Texts are given as written. Which word is a stage or an event is decided in one place
      (:mod:`~.hypnogram`), unless the format has codes of its own; those are spelled out, with the
      code behind a bar (``Wake|0``).
    - What cannot be made an annotation is counted in ``dropped``, by reason.
    - A column or field that can carry time and is not understood is an error, with its name.
    - An error is an :class:`~sleepfm.errors.AnnotationError`; its text goes on from the file's
      name.

    Parameters
    ----------
    endings : tuple of str
        Lower-case ends of the names of its files, e.g. ``(".annot",)``, the preferred one first.
    """

    endings: tuple[str, ...]

    def sniff(self, head: bytes) -> bool:
        """Return whether a file of such a name that begins with these bytes is of the format.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        ...

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a file.

        Parameters
        ----------
        path : Path
            The file; it exists.
        scored : Scored
            The signals that it scores, as far as they are known, and what the user says of it.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.

        Raises
        ------
        AnnotationError
            If it cannot be read as scoring without doubt.
        """
        ...
