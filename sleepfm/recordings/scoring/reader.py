"""Interface of readers of scoring formats.

A new format is one module with a class that implements this interface, and one line in
:data:`~sleepfm.recordings.scoring.formats.READERS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sleepfm.recordings.scoring.vocabulary import Notes, Scored


class ScoringReader(Protocol):
    """Reads scoring files of one format.

    Conventions for every reader:

    - Onsets are in seconds, relative to the start of the signals or to the time of day that the
      reader returns as ``start_clock_s`` (with ``start_day``, if the file has a date). The reader
      does not align the two.
    - ``duration_s`` is None if the file gives no duration. A reader does not invent one: epochs
      have a duration only if the format defines it.
    - Texts are returned as written. Which texts are stages or events is decided in one place
      (:mod:`~.hypnogram`), unless the format has its own codes; those are spelled out, with the
      code after a bar (``Wake|0``).
    - Entries that cannot be converted to annotations are counted in ``dropped``, by reason.
    - A column or field that may contain times but is not understood is an error that names it.
    - An error is an :class:`~sleepfm.errors.AnnotationError`; its text continues a sentence that
      begins with the file name.

    Parameters
    ----------
    endings : tuple of str
        Extensions of the format in lower case, the preferred one first, e.g. ``(".annot",)``.
    """

    endings: tuple[str, ...]

    def sniff(self, head: bytes) -> bool:
        """Return whether a file with a matching extension is of this format, by its first bytes.

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
            Scoring file; it exists.
        scored : Scored
            Properties of the scored signals, as far as known, and options given by the user.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.

        Raises
        ------
        AnnotationError
            If the file cannot be read as scoring unambiguously.
        """
        ...
