"""``sleepfm-index probe``: what a linear probe reads from the vectors."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sleepfm_cli.evaluate import between
from sleepfm_cli.options import (
    DEFAULT_STORE,
    ClassesOption,
    Format,
    FormatOption,
    Kind,
    KindOption,
    LabelOption,
    PlotOption,
    ReplicatesOption,
    SeedOption,
    StoreOption,
    TestStoreOption,
    TestWhereOption,
    TrainWhereOption,
    WhereOption,
    listed,
)
from sleepfm_cli.render import messages, say, show_arrow, show_table

if TYPE_CHECKING:
    from sleepfm_index import Result


def probe(
    label: LabelOption,
    on: Annotated[
        str | None,
        typer.Option(help="Vectors to read, e.g. bas,bas+ecg; default each, and all joined."),
    ] = None,
    where: WhereOption = None,
    kind: KindOption = Kind.auto,
    classes: ClassesOption = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of subjects.")] = 5,
    train_where: TrainWhereOption = None,
    test_where: TestWhereOption = None,
    test_store: TestStoreOption = None,
    shots: Annotated[
        str | None, typer.Option(help="Learn from so many subjects, e.g. 1,2,4,8: the curve.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="For --shots: draws of subjects.")] = 10,
    c: Annotated[float, typer.Option("-c", help="Inverse strength of the L2 penalty.")] = 1.0,
    train_clips: Annotated[
        int, typer.Option(min=2, help="Learn from at most so many clips, drawn at random.")
    ] = 200_000,
    seed: SeedOption = 0,
    replicates: ReplicatesOption = 1000,
    beside: Annotated[
        Path | None,
        typer.Option(help="Another model's predictions (clip_id, p_<class>): one table with them."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Also fit one probe to all labelled clips and write it to this file."),
    ] = None,
    plot: PlotOption = None,
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Read a label from frozen vectors by logistic or ridge regression, subjects kept apart.

    Example: sleepfm-index probe --label stage
    """
    import sleepfm_index
    from sleepfm_index.evaluation.models.probe import Recipe, fit_probe

    features = listed(on)
    if save is not None and len(features or ()) != 1:
        raise typer.BadParameter("--save needs one kind of vector, e.g. --on bas")
    recipe = Recipe(c=c, seed=seed, train_clips=train_clips)
    picked: dict[str, Any] = {"where": where, "kind": kind.value, "classes": listed(classes)}
    with ExitStack() as stack:
        opened = stack.enter_context(sleepfm_index.open(store))
        other = stack.enter_context(sleepfm_index.open(test_store)) if test_store else None
        split: dict[str, Any] = {
            "folds": folds,
            "train_where": train_where,
            "test_where": test_where,
            "test_store": other,
        }
        with messages.status("fitting probes"):
            if shots is not None:
                result: Result = opened.few_shot(
                    label, _numbers(shots), on=features, repeats=repeats, recipe=recipe,
                    **picked, **split,
                )  # fmt: skip
            else:
                result = opened.probe(
                    label,
                    on=features,
                    recipe=recipe,
                    replicates=replicates,
                    beside=beside,
                    **picked,
                    **split,
                )
            if save is not None and features:
                fitted = fit_probe(opened, label, features[0], recipe=recipe, **picked)
                say(f"saved to {fitted.save(save)}")
        trained = opened.manifest.weights.trained
    if plot is not None:
        _draw(result, plot, curve=shots is not None)
    if format is not Format.table:
        show_arrow(result.table, format)
        return
    say(result.note)
    if not trained:
        say("untrained weights: a random network's features", "bold yellow")
    show_few_shot(result) if shots is not None else show_assessment(result)


def show_assessment(result: Result) -> None:
    """Print a table of measures with their intervals."""
    rows = result.to_pylist()
    if "mae" in rows[0]:
        show_table(
            [
                (r["features"], r["level"], between(r, "mae"), between(r, "r"), r["clips"],
                 r["subjects"])
                for r in rows
            ],
            ("from", "per", "MAE [95 %]", "r [95 %]", "n", "subjects"),
        )  # fmt: skip
        return
    show_table(
        [
            (
                r["features"],
                r["level"],
                r["class"],
                *(between(r, name) for name in ("auroc", "auprc", "f1")),
                *("-" if r[n] is None else f"{r[n]:.3f}" for n in _WHOLE),
                r["clips"],
                r["subjects"],
            )
            for r in rows
        ],
        (
            *("from", "per", "class", "AUROC [95 %]", "AUPRC [95 %]", "F1 [95 %]"),
            *("accuracy", "kappa", "calib. error", "answered", "n", "subjects"),
        ),
    )


def show_few_shot(result: Result) -> None:
    """Print a learning curve over subjects."""
    rows = result.to_pylist()
    names = [n for n in ("auroc", "auprc", "f1", "mae", "r") if n in rows[0]]
    show_table(
        [
            (
                r["features"],
                r["shots"],
                *(between(r, n) for n in names),
                r["draws"],
                r["one_class_draws"],
            )
            for r in rows
        ],
        (
            *("from", "subjects"),
            *(f"{n.upper() if n != 'r' else n} [95 % of draws]" for n in names),
            *("draws", "draws of one class"),
        ),
    )


_WHOLE = ("accuracy", "kappa", "calibration_error", "answered")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in listed(text) or ()]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers; write e.g. 1,2,4") from None


def _draw(result: Any, path: Path, *, curve: bool) -> None:
    from sleepfm_index.evaluation.figures import panels

    panels.draw_few_shot(result, path) if curve else panels.draw_assessment(result, path)
