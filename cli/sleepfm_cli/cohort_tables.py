"""Tables about many recordings in 80 columns: their slots, and what of the scoring is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size

from sleepfm_cli.render import show_table

WIDTH: Final = 80
_LEAST: Final = 10
_GAP: Final = 2


def fitted(
    rows: Sequence[Sequence[str]], columns: Sequence[str], at: int, width: int = WIDTH
) -> list[list[str]]:
    """Shorten one column of a table so that its lines fit so many characters."""
    widths = [
        max([cell_len(name), *(cell_len(row[i]) for row in rows)]) for i, name in enumerate(columns)
    ]
    room = width - (sum(widths) - widths[at]) - _GAP * (len(columns) - 1)
    room = max(room, _LEAST, cell_len(columns[at]))
    return [[_short(text, room) if i == at else text for i, text in enumerate(r)] for r in rows]


def show_slots(filled: Sequence[Mapping[str, str]], slots: Sequence[str]) -> None:
    """Print in how many recordings each slot is filled, and by which channels."""
    rows = []
    for slot in slots:
        by = Counter(found[slot] for found in filled if slot in found)
        named = (name if len(by) == 1 else f"{name} in {n}" for name, n in by.most_common())
        rows.append([slot, f"{by.total()} of {len(filled)}", ", ".join(named) or "-"])
    columns = ("slot", "filled in", "by")
    show_table(fitted(rows, columns, 2), columns, title="\nslots")


def show_left_out(dropped: Sequence[Mapping[str, int]]) -> None:
    """Print what of the scoring is stored nowhere, by reason; nothing if all of it is stored."""
    total: Counter[str] = Counter()
    recordings: Counter[str] = Counter()
    for reasons in dropped:
        total.update(reasons)
        recordings.update(reason for reason, n in reasons.items() if n)
    if not total.total():
        return
    columns = ("annotations", "recordings", "reason")
    rows = [[str(n), str(recordings[reason]), reason] for reason, n in total.most_common() if n]
    show_table(rows, columns, title="\nleft out of the scoring")


def _short(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…"
