"""Tables about many recordings in 80 columns: filled slots, and annotations left out by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size

from sleepfm_cli.render import show_table

WIDTH: Final = 80
_MIN_WIDTH: Final = 10
_GAP: Final = 2


def fitted(
    rows: Sequence[Sequence[str]], columns: Sequence[str], at: int, width: int = WIDTH
) -> list[list[str]]:
    """Shorten column ``at`` of a table so that its lines fit ``width`` characters."""
    widths = [
        max([cell_len(name), *(cell_len(row[i]) for row in rows)]) for i, name in enumerate(columns)
    ]
    room = width - (sum(widths) - widths[at]) - _GAP * (len(columns) - 1)
    room = max(room, _MIN_WIDTH, cell_len(columns[at]))
    return [[_short(text, room) if i == at else text for i, text in enumerate(r)] for r in rows]


def show_slots(filled: Sequence[Mapping[str, str]], slots: Sequence[str]) -> None:
    """Print the number of recordings in which each slot is filled, and the channels that fill it.

    ``filled`` has the channel of each filled slot by recording.
    """
    rows = []
    for slot in slots:
        by = Counter(found[slot] for found in filled if slot in found)
        named = (name if len(by) == 1 else f"{name} in {n}" for name, n in by.most_common())
        rows.append([slot, f"{by.total()} of {len(filled)}", ", ".join(named) or "-"])
    columns = ("slot", "filled in", "by")
    show_table(fitted(rows, columns, 2), columns, title="\nslots")


def show_left_out(dropped: Sequence[Mapping[str, int]]) -> None:
    """Print the number of annotations that are not stored, by reason; nothing if there are none.

    ``dropped`` has the numbers of one recording by reason.
    """
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
