"""The learning curves of a run, drawn from its log.

python -m sleepfm.training.curves weights.log.jsonl [curves.png]
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sleepfm.atomic_write import write_bytes
from sleepfm.errors import SleepFMError, TrainingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sleepfm.training.task import Metrics

SHARES: Final = {
    "mean_recall_at_1": "recall@1 over the validation gallery, mean of all directions",
    "accuracy": "accuracy",
    "auroc": "macro AUROC",
}
"""Validation metrics between 0 and 1, and their labels in the figure."""


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def read_log(path: Path) -> list[Metrics]:
    """Read the metrics of every epoch.

    Parameters
    ----------
    path : Path
        The log, one JSON object per line.

    Returns
    -------
    list of dict
        Metrics of each epoch, in order.

    Raises
    ------
    TrainingError
        If the file is not the log of a training run.
    """
    try:
        history: list[Metrics] = [json.loads(line) for line in path.read_text().splitlines()]
        if not history or any("valid" not in entry for entry in history):
            raise ValueError
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"{path.name} is not the log of a training run") from error
    return history


def draw(history: Sequence[Metrics], path: Path) -> Path:
    """Plot loss and validation metrics against epochs, as PNG.

    Parameters
    ----------
    history : sequence of dict
        Metrics of each epoch, in order.
    path : Path
        The PNG file to write.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    TrainingError
        If matplotlib is not installed, or the file cannot be written.
    """
    if not can_draw():
        raise TrainingError(
            "drawing needs matplotlib, which is not installed: "
            "pip install 'sleepfm-index[eval]'; the log has the values"
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, validation_axes = figure.subplots(1, 2)
    epochs = [entry["epoch"] for entry in history]
    loss_axes.plot(epochs, [entry["loss"] for entry in history], marker="o", label="training")
    loss_axes.plot(epochs, [e["valid"]["loss"] for e in history], marker="o", label="validation")
    _label(loss_axes, "loss")
    for name, title in SHARES.items():
        if name in history[0]["valid"]:
            validation_axes.plot(
                epochs, [_or_nan(e["valid"][name]) for e in history], "o-", label=title
            )
    _label(validation_axes, "validation")
    validation_axes.set_ylim(bottom=0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    try:
        return write_bytes(path, buffer.getvalue())
    except SleepFMError as error:
        raise TrainingError(str(error)) from error


def _label(axes: Axes, quantity: str) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity)
    axes.locator_params(axis="x", integer=True)
    if axes.has_data():
        axes.legend(frameon=False, fontsize="small")


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def main(arguments: Sequence[str]) -> None:
    """Plot the curves of a log, next to it or to a given path.

    Parameters
    ----------
    arguments : sequence of str
        Command-line arguments: the log and, optionally, the PNG file.
    """
    if not 1 <= len(arguments) <= 2:
        sys.exit("usage: python -m sleepfm.training.curves LOG.jsonl [CURVES.png]")
    log = Path(arguments[0])
    target = (
        Path(arguments[1])
        if len(arguments) == 2
        else log.with_name(log.name.removesuffix(".log.jsonl") + ".curves.png")
    )
    try:
        print(draw(read_log(log), target))
    except SleepFMError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
