"""The plot of retrieval and staging against the number of remaining slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sleepfm_index.evaluation.figures.style import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEASURES: Final = (
    ("recall_at_10", "recall@10", "o-"),
    ("stage_auroc", "stage AUROC", "s--"),
)
_STAGE_CHANCE: Final = 0.5


def slots_curve(rows: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Draw recall@10 and the macro AUROC of stages over the slots left of one modality.

    Bands, or a bar where there is one slot only, are 95 % intervals over subjects, where there are
    any. Dotted lines are the chance levels.

    Parameters
    ----------
    rows : sequence of dict
        Rows of one modality of
        :func:`~sleepfm_index.evaluation.retrieval.fewer_slots.fewer_slots`.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax)
    rows = sorted(rows, key=lambda row: row["slots_left"])
    for name, label, style in _MEASURES:
        points = [row for row in rows if row[name] is not None]
        if not points:
            continue
        left = [row["slots_left"] for row in points]
        (line,) = ax.plot(left, [row[name] for row in points], style, label=label)
        # a band over a gap would hide that there is no interval
        if all(row[f"{name}_low"] is not None for row in points):
            low, high = ([row[f"{name}_{end}"] for row in points] for end in ("low", "high"))
            if len(left) > 1:
                ax.fill_between(left, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
            else:
                ax.vlines(left, low, high, alpha=0.4, color=line.get_color())
        chance = points[0]["chance_at_10"] if name == "recall_at_10" else _STAGE_CHANCE
        ax.axhline(chance, linestyle=":", color=line.get_color(), label=f"chance of {label}")
    slots = rows[-1]["slots_left"]
    ax.set(xlabel="slots left (n)", ylabel="recall@10, AUROC", ylim=(0, 1.02))
    ax.set_xlim(0.7, slots + 0.3)
    ax.set_xticks(range(1, slots + 1))
    return ax
