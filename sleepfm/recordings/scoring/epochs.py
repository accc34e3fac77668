"""Hypnograms of one stage a row: Luna ``.eannot``, YASA, ELAN, DREAMS, stanford-stages, bare lists.

How long a row is comes from the file where it says so, from ``--epoch-seconds``, or from the number
of rows and the length of the signals where only one length fits; otherwise the file is refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sleepfm.choices import Coding
from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import number_of
from sleepfm.recordings.scoring.stage_words import (
    coding_beside_letters,
    integer,
    plain,
    stage_in_column,
    stage_of_code,
)
from sleepfm.recordings.scoring.text_file import (
    decoded,
    lines_of,
    read_text,
    refuse_gaps,
)
from sleepfm.recordings.scoring.vocabulary import EPOCH_S, Annotation, Notes, Scored

LENGTHS_S: Final = (1.0, 5.0, 10.0, 15.0, 20.0, 30.0)
"""Epoch lengths in use, in seconds."""

_UNKNOWN_SHARE: Final = 0.05
"""Share of unknown codes or words above which a list is not a hypnogram."""
_DREAMS: Final = re.compile(r"\[?hypnogram\s*(aasm|r&k)?", re.IGNORECASE)


class EpochList:
    """One stage a line, nothing else; a heading and comments may stand above."""

    endings: tuple[str, ...] = (".eannot", ".hyp", ".txt", ".csv", ".tsv", ".stg")

    def sniff(self, head: bytes) -> bool:
        """Return whether lines are single words or numbers.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        try:
            lines = lines_of(decoded(head))
        except AnnotationError:
            return False
        body = [line for line in lines if not line.startswith(("#", "*"))]
        return bool(body) and all(
            len(re.split(r"[\t;,]", line.strip())) == 1 for line in body[3:-1] or body[-1:]
        )

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a list; see :class:`~.reader.ScoringReader`.

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
        text = read_text(path)
        lines = [line.strip() for line in lines_of(text)]
        above = [line for line in lines if line.startswith("#")]
        body = [line.strip('"\ufeff ') for line in lines if not line.startswith("#")]
        epoch_s, coding, body = _stated(above, body, scored)
        if body and integer(body[0]) is None and stage_in_column(body[0]) is None:
            if not re.fullmatch(r"[A-Za-z][\w -]*", body[0]):
                raise AnnotationError("has no sleep stage in line 1")
            del body[0]  # a heading
        if body:
            refuse_gaps(text, body[0])
        legend = legend_of(above)
        texts = named_codes(body, legend) if legend else checked_codes(body, coding)
        if not texts:
            raise AnnotationError("holds no sleep stage")
        odd = [
            i for i, t in enumerate(texts, 1) if stage_in_column(t) is None and integer(t) is None
        ]
        if len(odd) > _UNKNOWN_SHARE * len(texts):
            raise AnnotationError(f"has no sleep stage in line {odd[0]}")
        if path.name.lower().endswith(".eannot"):
            epoch_s = epoch_s or epoch_length(len(texts), scored, EPOCH_S)
        epoch_s = epoch_s or epoch_length(len(texts), scored)
        return Notes(
            tuple(Annotation(i * epoch_s, epoch_s, text, "stage") for i, text in enumerate(texts))
        )


class StanfordStages:
    """Two or three numbers per line: epoch, stage (R&K, 7 unknown), cycle; 30 s per epoch."""

    endings: tuple[str, ...] = (".sta",)

    def sniff(self, head: bytes) -> bool:
        """Accept any file of this ending.

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
        """Read a list; see :class:`~.reader.ScoringReader`.

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
        rows = [line.split() for line in lines_of(read_text(path))]
        if not rows or any(len(r) < 2 or integer(r[0]) is None for r in rows):
            raise AnnotationError("is not a list of epochs and stages")
        starts, _ = numbered_starts([r[0] for r in rows], len(rows))
        epoch_s = scored.epoch_s or EPOCH_S
        texts = checked_codes([r[1] for r in rows], scored.coding or "rk")
        return Notes(
            tuple(
                Annotation(at * epoch_s, epoch_s, text, "stage")
                for at, text in zip(starts, texts, strict=True)
            )
        )


def epoch_length(rows: int, scored: Scored, otherwise: float | None = None) -> float:
    """Seconds of a row: what the user says, else the one length that makes rows fill the signals.

    Parameters
    ----------
    rows : int
        How many epochs there are, or the number of the last one.
    scored : Scored
        Gives the length of the signals, and what the user says.
    otherwise : float, optional
        What the format prescribes where no length fits.

    Raises
    ------
    AnnotationError
        If no length fits.
    """
    if scored.epoch_s:
        return scored.epoch_s
    if scored.duration_s is None:
        return otherwise or EPOCH_S
    off = {e: abs(scored.duration_s - rows * e) for e in LENGTHS_S}
    fitting = [e for e in LENGTHS_S if off[e] <= max(2 * e, 0.05 * scored.duration_s)]
    exact = [e for e in fitting if off[e] < e]
    for candidates in (exact, fitting):
        if otherwise in candidates or len(candidates) == 1:
            return otherwise if otherwise in candidates else candidates[0]
        if EPOCH_S in candidates and rows <= 2:
            return EPOCH_S
    if otherwise is not None:
        return otherwise
    raise AnnotationError(
        f"holds {rows} epochs for {scored.duration_s:.0f} s of signals, which fits no usual "
        "epoch length; pass --epoch-seconds, or add the onsets"
    )


def numbered_starts(numbers: Sequence[str] | None, rows: int) -> tuple[list[int], int]:
    """Place each row in epochs from the start, and count the epochs up to the last row.

    Epochs are counted from 1, or from 0 if there is an epoch 0; they may begin late or have holes.

    Parameters
    ----------
    numbers : sequence of str, or None
        Number of each epoch as written; None where rows are not numbered.
    rows : int
        Number of rows.

    Returns
    -------
    starts : list of int
        Place of each row, in epochs from 0.
    epochs : int
        Number of epochs up to the last row.

    Raises
    ------
    AnnotationError
        If a number is missing, or a number comes twice or goes back.
    """
    if numbers is None:
        return list(range(rows)), rows
    found = [integer(n) for n in numbers]
    if None in found:
        line = found.index(None)
        raise AnnotationError(f"has no epoch number in row {line + 1}")
    values = [int(n) for n in found if n is not None]
    if any(b <= a for a, b in itertools.pairwise(values)):
        raise AnnotationError("has epoch numbers that repeat or are out of order")
    first = 0 if values and values[0] == 0 else 1
    return [v - first for v in values], (values[-1] - first + 1 if values else 0)


def checked_codes(cells: Sequence[str], coding: Coding | None) -> list[str]:
    """Return stages as they are, and integer codes with what they mean: ``N2|2``.

    A code that the coding does not have stays a bare number, which is counted later.

    Parameters
    ----------
    cells : sequence of str
        Stages as written.
    coding : str, optional
        Name of the coding: a key of :data:`~.stage_words.CODINGS`.

    Returns
    -------
    list of str, length cells

    Raises
    ------
    AnnotationError
        If there are codes and no coding, or one in twenty is not of the coding.
    """
    texts = []
    unknown: list[str] = []
    coding = coding or coding_beside_letters(cells)
    for cell in cells:
        code = integer(cell)
        stage = stage_of_code(cell, coding)
        if code is None or stage is None:
            if code is not None:
                unknown.append(code)
            texts.append(cell)
            continue
        texts.append(code if coding is None else f"{stage}|{code}")
    if len(unknown) > _UNKNOWN_SHARE * len(cells):
        raise AnnotationError(f"has the code {unknown[0]}, which is not in the coding {coding}")
    return texts


def named_codes(cells: Sequence[str], levels: dict[str, str]) -> list[str]:
    """Replace codes by their names in a legend: ``Wake|1``; what the legend lacks stays.

    Parameters
    ----------
    cells : sequence of str
        Stages as written.
    levels : dict of str to str
        Name of each code.

    Returns
    -------
    list of str, length cells
    """
    texts = []
    for cell in cells:
        code = integer(cell)
        name = levels.get(code) if code is not None else None
        # A level with a name of its own ("Disconnected") is no stage, but known.
        if name is not None and stage_in_column(name) is None:
            name = "Unscored"
        texts.append(cell if name is None or code is None else f"{name}|{code}")
    return texts


def legend_of(lines: Sequence[str]) -> dict[str, str]:
    """Read the codes explained above a list: ``# 0: Wake, 1: N1, 2: N2``.

    Parameters
    ----------
    lines : sequence of str
        Lines above the list.

    Returns
    -------
    dict of str to str
        Name of each code; empty where fewer than two stages are explained.
    """
    found: dict[str, str] = {}
    for line in lines:
        pairs = re.findall(
            r"(-?\d{1,2})\s*[:=]\s*([A-Za-z][\w ]{0,20}?)"
            r"(?=\s*[,;.]|\s*$|\s-?\d+\s*[:=])",
            line,
        )
        named = {code: name for code, name in pairs if stage_in_column(name) is not None}
        if len(named) >= 2:
            found |= named
    return found


def _stated(
    above: list[str], body: list[str], scored: Scored
) -> tuple[float | None, Coding | None, list[str]]:
    """Epoch and coding that a file states of itself, and the lines that are stages."""
    epoch_s, coding = scored.epoch_s, scored.coding
    for line in above:
        said = re.search(r"per (\d+(?:\.\d+)?) ?s(?:ec|$|\b)", plain(line))
        if said:
            epoch_s = epoch_s or float(said.group(1))
    if body and body[0].startswith("["):
        if _DREAMS.match(body[0]) is None:
            raise AnnotationError("has no sleep stage in line 1")
        return epoch_s or 5.0, coding or "dreams", body[1:]
    heads = {line.split()[0].lower(): line.split()[-1] for line in body[:8] if " " in line}
    if "time_base" in heads or "epoch_nb" in heads:  # ELAN
        at = next((i for i, x in enumerate(body[:10]) if x.lower() == "epoch_list"), None)
        base = number_of(heads.get("time_base", ""))
        if at is None or not base:
            raise AnnotationError("is not an ELAN hypnogram with a time base and a list")
        return epoch_s or base, coding, body[at + 1 :]
    return epoch_s, coding, body
