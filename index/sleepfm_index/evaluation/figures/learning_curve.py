"""The plot of a few-shot learning curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sleepfm_index.evaluation.figures.style import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sleepfm_index.results import Result


_TITLES: Final = {"auroc": "macro AUROC", "mae": "MAE (unit of the label)"}


def few_shot_curve(result: Result, measure: str = "auroc", ax: Axes | None = None) -> Axes:
    """Draw a measure over the number of training subjects; bands are 2.5 to 97.5 % of the draws.

    Parameters
    ----------
    result : Result
        Result of :func:`~sleepfm_index.evaluation.models.few_shot.few_shot`.
    measure : {"auroc", "mae"}
        A column of the table.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax)
    rows = [row for row in result.to_pylist() if row[measure] is not None]
    for features in dict.fromkeys(row["features"] for row in rows):
        points = [row for row in rows if row["features"] == features]
        shots = [row["shots"] for row in points]
        (line,) = ax.plot(shots, [row[measure] for row in points], "o-", label=features)
        low, high = ([row[f"{measure}_{end}"] for row in points] for end in ("low", "high"))
        ax.fill_between(shots, low, high, alpha=0.15, color=line.get_color())
    ticks = sorted({row["shots"] for row in rows})
    ax.set(xlabel="training subjects (n)", ylabel=_TITLES[measure], xscale="log")
    ax.set_title("bands: 2.5 to 97.5 % of the draws of subjects", fontsize="small")
    ax.set_xticks(ticks, [str(t) for t in ticks], minor=False)
    ax.minorticks_off()
    ax.ticklabel_format(axis="y", useOffset=False)
    if measure == "auroc":
        ax.set_ylim(top=1.02)
    ax.legend()
    return ax
