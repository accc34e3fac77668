"""Report on the runs of questions.py: a table with its gate, and a figure per question."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.stats import t as student

from sleepfm_index.evaluation.figures.style import PALETTE, save
from sleepfm_index.evaluation.metrics.paired_difference import holm

try:
    from matplotlib.figure import Figure
except ImportError:
    sys.exit("the figures need matplotlib: pip install 'sleepfm-index[eval]'")

Runs = list[dict[str, Any]]
PLAIN: Final = "leave-one-out"
START: Final = "start"
"""Name of the weights from which the arms start, measured as they are."""
GATE: Final = 0.5
LATER_S: Final = 0.4
"""How much later the queries of ``recall_later`` are cut, in seconds: about half a heart beat."""
TITLES: Final = {
    "people": "1. How does retrieval grow with people?",
    "objectives": "2. Do other objectives do better?",
    "leads": "3. Does the lead of the ECG matter?",
    "sharing": "4. What is shared, what is private?",
}


def write_page(folder: Path, runs: Runs, sizes: dict[str, Any]) -> None:
    """Write table.md and a figure per question, as ``people.png``, ``people.svg`` and so on.

    Parameters
    ----------
    folder : Path
        Output folder.
    runs : list of dict
        Measures of every arm and seed so far.
    sizes : dict
        Sizes and options of the study, for display.
    """
    seeds = sorted({run["seed"] for run in runs})
    done = len(runs)
    lines = [
        f"**Simulated people**: {sizes['people']} to train on, {sizes['test_people']} others to "
        f"test, {sizes['hours']:g} h each. Start: {sizes['start']}; then {sizes['steps']} steps of "
        f"batch {sizes['batch_size']}, windows up to {sizes['jitter_s']:g} s apart. "
        f"{done} of {sizes['arms'] * sizes['seeds']} arms measured, "
        f"{len(seeds)} seeds begun.",
        "",
        *_gate(runs),
        "",
        "| question | primary outcome | by seed | mean [95 %, t over seeds] | p | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    found = {name: outcome(name, runs) for name in TITLES}
    p = [_p(values) for values in found.values()]
    for (name, values), own, adjusted in zip(found.items(), p, holm(p), strict=True):
        cells = ", ".join(f"{v:+.4f}" for v in values) or "-"
        lines.append(
            f"| {name} | {_OUTCOMES[name][0]} | {cells} | {_spread(values)} | {_cell(own)} "
            f"| {_cell(adjusted)} |"
        )
    lines += [
        "",
        f"| arm | people | recall@10, by seed | queries {LATER_S:g} s later | chance "
        "| heart rate r | shared R2 | private R2 | stage AUROC | effective rank (BAS) |",
        "|---" * 10 + "|",
    ]
    for arm, people in {run["arm"]: run["people"] for run in runs}.items():
        for lead in ("II", "V1"):
            own = [r["tested"][lead] for r in runs if r["arm"] == arm and lead in r["tested"]]
            if own:
                count = "-" if arm == START else str(people)
                lines.append(_arm_line(f"{arm}, tested on {lead}", count, own))
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for question in TITLES:
        axes = draw(question, runs)
        for ending in ("png", "svg"):
            save(axes, folder / f"{question}.{ending}")


def outcome(question: str, runs: Runs) -> list[float]:
    """Return the primary outcome of a question, one value per seed with the required arms.

    Parameters
    ----------
    question : str
        A key of :data:`TITLES`.
    runs : list of dict
        Measures of every arm and seed.
    """
    values = []
    for seed in sorted({run["seed"] for run in runs}):
        arms = {run["arm"]: run for run in runs if run["seed"] == seed}
        value = _OUTCOMES[question][1](arms)
        if value is not None:
            values.append(value)
    return values


def draw(question: str, runs: Runs) -> Any:
    """Draw one question: runs as points with intervals over people, means as lines.

    Parameters
    ----------
    question : str
        A key of :data:`TITLES`.
    runs : list of dict
        Measures of every arm and seed.

    Returns
    -------
    Axes
        The axes of the figure.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    ax = figure.subplots()
    # few clips of few people leave a measure without a value
    points = [point for point in _points(question, runs) if np.isfinite(point[1])]
    labels = list(dict.fromkeys(label for label, *_ in points))
    for label, value, low, high, seed in points:
        x = labels.index(label) + 0.08 * (seed - 1)
        ax.errorbar(
            x, value, yerr=[[value - low], [high - value]], fmt="o", markersize=4,
            color=PALETTE[seed % len(PALETTE)], elinewidth=1, capsize=2,
        )  # fmt: skip
    for position, label in enumerate(labels):
        arm_values = [value for name, value, *_ in points if name == label]
        if len(arm_values) >= 2:
            ends = [position - 0.25, position + 0.25]
            ax.plot(ends, [np.mean(arm_values)] * 2, color="0.3", linewidth=1.5)
    ax.set_xticks(range(len(labels)), labels, rotation=25, ha="right", fontsize="small")
    ax.set_title(TITLES[question], fontsize="medium", loc="left")
    ax.set_ylabel("R² of private truth" if question == "sharing" else "recall@10")
    lines = [line for line in _references(question, runs) if points and np.isfinite(line[1])]
    top = max((*(high for *_, high, _ in points), *(line[1] for line in lines)), default=0.0)
    ax.set_ylim(0, 1.1 * top if top else 1.0)
    if points:
        ax.set_xlim(-0.6, len(labels) - 0.4)
        for text, value, style in lines:
            ax.axhline(value, color="0.5", linestyle=style, linewidth=1, zorder=0)
            x, side = (0.99, "right") if text == "chance" else (0.01, "left")
            ax.annotate(
                text, (x, value), xycoords=("axes fraction", "data"), va="bottom", ha=side,
                fontsize="x-small", color="0.4",
            )  # fmt: skip
    seeds = len({run["seed"] for run in runs})
    bars = "" if question == "sharing" else "; bars: 95 % over tested people"
    figure.supxlabel(
        f"Simulated people. Points: single trainings ({seeds} {'seed' if seeds == 1 else 'seeds'}, "
        f"by colour){bars}; lines: means over seeds.",
        fontsize="x-small",
    )
    return ax


def _references(question: str, runs: Runs) -> list[tuple[str, float, str]]:
    """Return the horizontal lines of a panel: chance, and the start on lead II."""
    key = "private_r2" if question == "sharing" else "recall_at_10"
    own = [run["tested"]["II"] for run in runs]
    lines = [] if question == "sharing" else [("chance", own[0]["chance"], ":")]
    starts = [run["tested"]["II"][key] for run in runs if run["arm"] == START]
    if starts:
        lines.append(("start", float(np.mean(starts)), "--"))
    return lines


def _points(question: str, runs: Runs) -> list[tuple[str, float, float, float, int]]:
    points = []
    for run in runs:
        if run["question"] not in (question, "all"):
            continue
        for lead, measures in run["tested"].items():
            if question != "leads" and lead != "II":
                continue
            label = run["arm"]
            if question == "leads":
                label = f"{'lead II' if run['arm'] == PLAIN else run['arm']} → {lead}"
            if question == "sharing":
                value = measures["private_r2"]
                points.append((label, value, value, value, run["seed"]))
                continue
            people = np.array(measures["by_person"])
            half = float(student.ppf(0.975, len(people) - 1) * people.std(ddof=1))
            half /= np.sqrt(len(people))
            value = measures["recall_at_10"]
            points.append((label, value, max(value - half, 0.0), value + half, run["seed"]))
    if question == "people":
        order = {run["arm"]: run["people"] for run in runs}
        points.sort(key=lambda point: order[point[0]])
        return [(f"{order[name]} people", *rest) for name, *rest in points]  # type: ignore[misc]
    return points


def _recall(arms: dict[str, Any], name: str, lead: str = "II") -> float | None:
    run = arms.get(name)
    return None if run is None or lead not in run["tested"] else run["tested"][lead]["recall_at_10"]


def _slope(arms: dict[str, Any]) -> float | None:
    runs = [run for run in arms.values() if run["question"] in ("people", "all")]
    if len(runs) < 3:
        return None
    x = np.log2([run["people"] for run in runs])
    y = [run["tested"]["II"]["recall_at_10"] for run in runs]
    return float(np.polyfit(x, y, 1)[0])


def _less(one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else one - two


def _private(arms: dict[str, Any]) -> float | None:
    if "within 0.3" not in arms or PLAIN not in arms:
        return None
    one, two = (arms[name]["tested"]["II"]["private_r2"] for name in ("within 0.3", PLAIN))
    return float(one - two)


_OUTCOMES: Final[dict[str, tuple[str, Callable[[dict[str, Any]], float | None]]]] = {
    "people": ("recall@10 per doubling of people", _slope),
    "objectives": (
        "recall@10, pairwise - leave-one-out",
        lambda arms: _less(_recall(arms, "pairwise"), _recall(arms, PLAIN)),
    ),
    "leads": (
        "recall@10 of lead II, on II - on V1",
        lambda arms: _less(_recall(arms, PLAIN), _recall(arms, PLAIN, "V1")),
    ),
    "sharing": ("private R2, within 0.3 - without", _private),
}


def _gate(runs: Runs) -> list[str]:
    r = [run["tested"]["II"]["heart_rate_r"] for run in runs if run["arm"] == PLAIN]
    listed = ", ".join("-" if v is None else f"{v:.2f}" for v in r)
    passed = bool(r) and all(v is not None and v > GATE for v in r)
    verdict = "passed" if passed else "**not passed: nothing is concluded about pretraining below**"
    return [
        f"Gate (heart rate from ECG, r > {GATE} in every seed of `{PLAIN}`): {listed}; {verdict}."
    ]


def _p(values: list[float]) -> float:
    if len(values) < 2 or np.std(values) == 0:
        return float("nan")
    size = len(values)
    statistic = abs(np.mean(values)) / (np.std(values, ddof=1) / np.sqrt(size))
    return float(2 * student.sf(statistic, size - 1))


def _spread(values: list[float]) -> str:
    if not values:
        return "not run"
    if len(values) < 2:
        return f"{values[0]:+.4f} (one seed, no interval)"
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    mean = float(np.mean(values))
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


def _cell(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{value:.3f}" if value >= 0.0005 else "< 0.001"


def _arm_line(name: str, people: str, runs: Runs) -> str:
    def mean(key: str) -> str:
        values = [r[key] for r in runs if r[key] is not None and np.isfinite(r[key])]
        return f"{np.mean(values):.3f}" if values else "-"

    recall = ", ".join(f"{r['recall_at_10']:.3f}" for r in runs)
    rank = np.mean([r["effective_rank"]["bas"] for r in runs])
    return (
        f"| {name} | {people} | {recall} | {mean('recall_later')} "
        f"| {runs[0]['chance']:.3f} | {mean('heart_rate_r')} "
        f"| {mean('shared_r2')} | {mean('private_r2')} | {mean('stage_auroc')} | {rank:.1f} |"
    )
