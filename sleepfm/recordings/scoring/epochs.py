"""Hypnograms with one stage per row: Luna ``.eannot``, YASA, ELAN, DREAMS, stanford-stages, lists.

The epoch length is taken from the file if it states one, from ``--epoch-seconds``, or from the
number of rows and the duration of the signals if only one length fits; otherwise the file is
refused.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sleepfm.choices import Coding
from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import number_of
from sleepfm.recordings.scoring.stage_words import (
    coding_from_letters,
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

_FEW: Final = 4
"""Number of epochs up to which steps between their numbers show nothing."""
_UNKNOWN_SHARE: Final = 0.05
"""Maximum share of unknown codes or words in a hypnogram."""
_DREAMS: Final = re.compile(r"\[?hypnogram\s*(aasm|r&k)?", re.IGNORECASE)


class EpochList:
    """Lists of one stage per line, optionally with a heading and comments above."""

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
        epoch_s, coding, body = _declared(above, body, scored)
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
        unknown = [
            i for i, t in enumerate(texts, 1) if stage_in_column(t) is None and integer(t) is None
        ]
        if len(unknown) > _UNKNOWN_SHARE * len(texts):
            raise AnnotationError(f"has no sleep stage in line {unknown[0]}")
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
                Annotation(epoch * epoch_s, epoch_s, text, "stage")
                for epoch, text in zip(starts, texts, strict=True)
            )
        )


def epoch_length(rows: int, scored: Scored, default: float | None = None) -> float:
    """Determine the epoch length: given by the user, or the one at which the rows fill the signals.

    Parameters
    ----------
    rows : int
        Number of epochs, or the number of the last one.
    scored : Scored
        Duration of the signals, and the epoch length given by the user if any.
    default : float, optional
        Epoch length prescribed by the format, in seconds; used if no other length fits.

    Returns
    -------
    float
        Epoch length, in seconds.

    Raises
    ------
    AnnotationError
        If no usual epoch length or more than one fits, and the format prescribes none.
    """
    if scored.epoch_s:
        return scored.epoch_s
    if scored.duration_s is None:
        return default or EPOCH_S
    mismatch_s = {e: abs(scored.duration_s - rows * e) for e in LENGTHS_S}
    possible = [e for e in LENGTHS_S if mismatch_s[e] <= max(2 * e, 0.05 * scored.duration_s)]
    exact = [e for e in possible if mismatch_s[e] < e]
    for candidates in (exact, possible):
        if default in candidates or len(candidates) == 1:
            return default if default in candidates else candidates[0]
        if EPOCH_S in candidates and rows <= 2:
            return EPOCH_S
    if default is not None:
        return default
    raise AnnotationError(
        f"holds {rows} epochs for {scored.duration_s:.0f} s of signals, which fits no usual "
        "epoch length; pass --epoch-seconds, or add the onsets"
    )


def numbered_starts(numbers: Sequence[str] | None, rows: int) -> tuple[list[int], int]:
    """Convert epoch numbers to indices from 0.

    Numbering starts at 1, or at 0 if there is an epoch 0; it may start late and have gaps.

    Parameters
    ----------
    numbers : sequence of str, or None
        Number of each epoch as written; None where rows are not numbered.
    rows : int
        Number of rows.

    Returns
    -------
    starts : list of int
        Index of the epoch of each row, from 0.
    epochs : int
        Number of epochs up to the last row.

    Raises
    ------
    AnnotationError
        If a number is missing, repeated or out of order, or the numbers look like seconds.
    """
    if numbers is None:
        return list(range(rows)), rows
    codes = [integer(n) for n in numbers]
    if None in codes:
        line = codes.index(None)
        raise AnnotationError(f"has no epoch number in row {line + 1}")
    values = [int(n) for n in codes if n is not None]
    if any(b <= a for a, b in itertools.pairwise(values)):
        raise AnnotationError("has epoch numbers that repeat or are out of order")
    steps = Counter(b - a for a, b in itertools.pairwise(values))
    usual = steps.most_common(1)[0][0] if len(values) > _FEW else 1
    if usual in LENGTHS_S and usual > 1:
        raise AnnotationError(
            f"has epoch numbers in steps of {usual}, which may be seconds; name the column onset, "
            "or number the epochs 1, 2, 3"
        )
    first = 0 if values and values[0] == 0 else 1
    return [v - first for v in values], (values[-1] - first + 1 if values else 0)


def checked_codes(cells: Sequence[str], coding: Coding | None) -> list[str]:
    """Spell out integer codes as ``N2|2``; stage names are returned unchanged.

    Codes that are not in the coding stay bare numbers, and are counted as dropped later.

    Parameters
    ----------
    cells : sequence of str
        Stages as written.
    coding : str, optional
        Name of the coding: a key of :data:`~.stage_words.CODINGS`.

    Returns
    -------
    list of str, length cells
        Stages, with integer codes spelled out.

    Raises
    ------
    AnnotationError
        If there are codes but no coding, or more than 5 % of the cells are codes that the coding
        does not have.
    """
    texts = []
    unknown: list[str] = []
    coding = coding or coding_from_letters(cells)
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
    """Spell out codes by a legend, as ``Wake|1``; codes not in the legend are unchanged.

    Parameters
    ----------
    cells : sequence of str
        Stages as written.
    levels : dict of str to str
        Name of each code.

    Returns
    -------
    list of str, length cells
        Stages, with codes spelled out.
    """
    texts = []
    for cell in cells:
        code = integer(cell)
        name = levels.get(code) if code is not None else None
        # A level with another name, such as "Disconnected", is known, but not a stage.
        if name is not None and stage_in_column(name) is None:
            name = "Unscored"
        texts.append(cell if name is None or code is None else f"{name}|{code}")
    return texts


def legend_of(lines: Sequence[str]) -> dict[str, str]:
    """Parse a legend of codes above a list: ``# 0: Wake, 1: N1, 2: N2``.

    Parameters
    ----------
    lines : sequence of str
        Lines above the list.

    Returns
    -------
    dict of str to str
        Name of each code; empty where fewer than two stages are explained.
    """
    legend: dict[str, str] = {}
    for line in lines:
        pairs = re.findall(
            r"(-?\d{1,2})\s*[:=]\s*([A-Za-z][\w ]{0,20}?)"
            r"(?=\s*[,;.]|\s*$|\s-?\d+\s*[:=])",
            line,
        )
        named = {code: name for code, name in pairs if stage_in_column(name) is not None}
        if len(named) >= 2:
            legend |= named
    return legend


def _declared(
    above: list[str], body: list[str], scored: Scored
) -> tuple[float | None, Coding | None, list[str]]:
    """Return the epoch length and coding that the file states, and the lines with stages."""
    epoch_s, coding = scored.epoch_s, scored.coding
    for line in above:
        epoch_match = re.search(r"per (\d+(?:\.\d+)?) ?s(?:ec|$|\b)", plain(line))
        if epoch_match:
            epoch_s = epoch_s or float(epoch_match.group(1))
    if body and body[0].startswith("["):
        if _DREAMS.match(body[0]) is None:
            raise AnnotationError("has no sleep stage in line 1")
        return epoch_s or 5.0, coding or "dreams", body[1:]
    header = {line.split()[0].lower(): line.split()[-1] for line in body[:8] if " " in line}
    if "time_base" in header or "epoch_nb" in header:  # ELAN
        list_start = next((i for i, x in enumerate(body[:10]) if x.lower() == "epoch_list"), None)
        base = number_of(header.get("time_base", ""))
        if list_start is None or not base:
            raise AnnotationError("is not an ELAN hypnogram with a time base and a list")
        return epoch_s or base, coding, body[list_start + 1 :]
    return epoch_s, coding, body
