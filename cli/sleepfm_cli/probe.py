"""``sleepfm-index probe``: probes on frozen embeddings."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sleepfm_cli.evaluate import between
from sleepfm_cli.options import (
    DEFAULT_STORE,
    AgainstOption,
    ClassesOption,
    DpiOption,
    Format,
    FormatOption,
    IncludeSeenOption,
    LabelOption,
    PlotOption,
    ReplicatesOption,
    SdbRuleOption,
    SeedOption,
    StoreOption,
    StyleOption,
    TaskOption,
    TestStoreOption,
    TestWhereOption,
    TrainWhereOption,
    WhereOption,
    WideOption,
    by_sdb_rule,
    listed,
)
from sleepfm_cli.outputs import destination, expect_figure, expect_output
from sleepfm_cli.render import messages, say, show_arrow, show_table
from sleepfm_index.choices import Model

if TYPE_CHECKING:
    from sleepfm_index import Result, Store
    from sleepfm_index.evaluation.metrics.assessment import Assessment
    from sleepfm_index.evaluation.models.baseline_features import BaselineFeatures


def probe(
    label: LabelOption,
    sdb_rule: SdbRuleOption = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="Embeddings used as features, e.g. bas,bas+ecg; default: each, and all joined."
        ),
    ] = None,
    model: Annotated[
        Model,
        typer.Option(help="linear: logistic or ridge regression. boosting: 100 rounds of trees."),
    ] = "linear",
    where: WhereOption = None,
    task: TaskOption = "auto",
    classes: ClassesOption = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of subjects.")] = 5,
    train_where: TrainWhereOption = None,
    test_where: TestWhereOption = None,
    test_store: TestStoreOption = None,
    shots: Annotated[
        str | None,
        typer.Option(help="Learning curve over numbers of training subjects, e.g. 1,2,4,8."),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="For --shots: random draws of subjects.")
    ] = 10,
    c: Annotated[
        str,
        typer.Option(
            "-c", help="Inverse strength of the L2 penalty, or auto: chosen in inner folds."
        ),
    ] = "1",
    as_authors: Annotated[
        bool,
        typer.Option(
            "--as-authors", help="As in the SleepFM code: not standardised, 100 iterations."
        ),
    ] = False,
    train_clips: Annotated[
        int, typer.Option(min=2, help="Maximum number of training clips, drawn at random.")
    ] = 200_000,
    seed: SeedOption = 0,
    wide: WideOption = False,
    replicates: ReplicatesOption = None,
    compare_with: Annotated[
        Path | None,
        typer.Option(help="Predictions of another model (clip_id, p_<class>) to compare with."),
    ] = None,
    against: AgainstOption = None,
    by: Annotated[
        str | None, typer.Option(help="Also report each value of this column, e.g. nsrr_sex.")
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Also probe plain features and untrained vectors; reads the recordings.",
        ),
    ] = False,
    smooth: Annotated[
        bool,
        typer.Option(
            "--smooth", help="For --label stage: also smooth each night by stage transitions."
        ),
    ] = False,
    age_gap: Annotated[
        Path | None,
        typer.Option(
            help="For --label age: write the predicted age of each night, with and without bias "
            "correction, to a .csv, .json or .parquet file; needs one kind of vector: --on bas."
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Also fit one probe to all labelled clips and save it to this file."),
    ] = None,
    plot: PlotOption = None,
    dpi: DpiOption = 200,
    style: StyleOption = None,
    format: FormatOption = Format.table,  # noqa: A002
    include_seen: IncludeSeenOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Evaluate a probe on frozen embeddings, cross-validated over subjects.

    Example: sleepfm-index probe --label stage
    """
    import sleepfm_index
    from sleepfm_index.evaluation.metrics.assessment import Assessment
    from sleepfm_index.evaluation.models.probe import fit_probe
    from sleepfm_index.evaluation.models.probe_kinds import save_probe
    from sleepfm_index.evaluation.models.recipe import Recipe

    label = by_sdb_rule(label, sdb_rule)
    features = listed(on)
    if shots is not None and (against is not None or by is not None or baselines or smooth):
        raise typer.BadParameter(
            "--shots cannot be combined with --against, --by, --baselines or --smooth"
        )
    if save is not None and len(features or ()) != 1:
        raise typer.BadParameter("--save requires a single --on, e.g. --on bas")
    if age_gap is not None and (label != "age" or len(features or ()) != 1):
        raise typer.BadParameter("--age-gap requires --label age and a single --on, e.g. --on bas")
    if as_authors and (model != "linear" or c != "1"):
        raise typer.BadParameter("--as-authors cannot be combined with --model or -c")
    expect_output(save)
    nights = destination(age_gap, Format.table)
    expect_figure(plot)
    recipe = (
        Recipe.as_authors(seed=seed, train_clips=train_clips)
        if as_authors
        else Recipe(model=model, c=_penalty(c), seed=seed, train_clips=train_clips)
    )
    selection: dict[str, Any] = {
        "where": where,
        "task": task,
        "classes": listed(classes),
    }
    with ExitStack() as stack:
        opened = stack.enter_context(sleepfm_index.open(store))
        other = stack.enter_context(sleepfm_index.open(test_store)) if test_store else None
        second = stack.enter_context(sleepfm_index.open(against)) if against else None
        split: dict[str, Any] = {
            "folds": folds,
            "train_where": train_where,
            "test_where": test_where,
            "test_store": other,
            "include_seen": include_seen,
        }
        with messages.status("fitting probes"):
            if shots is not None:
                result: Result = opened.few_shot(
                    label, whole_numbers(shots), on=features, repeats=repeats, recipe=recipe,
                    compare_with=compare_with,
                    **selection, **split,
                )  # fmt: skip
            else:
                result = opened.probe(
                    label,
                    on=features,
                    recipe=recipe,
                    compare_with=compare_with,
                    against=second,
                    by=by,
                    smooth=smooth,
                    baselines=_baselines(opened) if baselines else False,
                    **selection,
                    **split,
                )
        trained = opened.manifest.weights.trained
        if format is not Format.table:
            show_arrow(result.table, format)
        else:
            say(result.note)
            if not trained:
                say("untrained weights: a random network's features", "bold yellow")
            if isinstance(result, Assessment):
                show_assessment(result, wide=wide)
            else:
                show_few_shot(result)
        if age_gap is not None and features:
            with messages.status("predicting ages"):
                gaps = opened.age_gaps(features[0], where=where, recipe=recipe, **split)
            nights.show(lambda: show_arrow(gaps.table, nights.format))
            say(f"{gaps.note}; {len(gaps)} nights in {age_gap}")
        if save is not None and features:
            with messages.status("fitting the probe to save"):
                fitted = fit_probe(
                    opened,
                    label,
                    features[0],
                    recipe=recipe,
                    include_seen=include_seen,
                    **selection,
                )
            say(f"saved to {save_probe(fitted, save)}")
    if plot is not None:
        _draw(result, plot, dpi, style, curve=shots is not None)


def _baselines(store: Store) -> BaselineFeatures:
    from sleepfm_index.evaluation.models.baseline_features import PLAIN, BaselineFeatures

    # for an untrained store, the untrained baseline would repeat its own row
    kinds = () if store.manifest.weights.trained else (PLAIN,)
    return BaselineFeatures(kinds) if kinds else BaselineFeatures()


def show_assessment(result: Assessment, *, wide: bool = False) -> None:
    """Print a table of measures with their intervals, and one of paired differences."""
    rows = result.to_pylist()
    grouped = any(r["group"] is not None for r in rows)
    if "mae" in rows[0]:
        show_table(
            [
                (
                    *_row_labels(r, grouped),
                    between(r, "mae"),
                    between(r, "r"),
                    r["clips"],
                    r["subjects"],
                )
                for r in rows
            ],
            (*_row_headings(grouped), "MAE [95 %]", "r [95 %]", "n", "subjects"),
        )
    else:
        _show_classes(rows, grouped, wide)
    if result.differences is not None:
        show_probe_differences(result.differences.to_pylist())


def show_probe_differences(rows: list[dict[str, Any]]) -> None:
    """Print paired differences, each with its interval and its p adjusted by Holm."""
    names = [n for n in ("auroc", "auprc", "f1", "kappa", "mae", "r") if f"{n}_p" in rows[0]]

    def cell(row: dict[str, Any], name: str) -> str:
        p = row[f"{name}_p_holm"]
        return between(row, f"{name}_difference", "+.3f") + ("" if p is None else f", {p:.3f}")

    show_table(
        [
            (
                f"{r['features']} - {r['against']}",
                r["level"],
                r["class"] or "",
                *(cell(r, n) for n in names),
                r["clips"],
                r["subjects"],
            )
            for r in rows
        ],
        (
            *("paired difference", "per", "class"),
            *(f"{_TITLES[n]} [95 %], p (Holm)" for n in names),
            *("n", "subjects"),
        ),
    )


def _row_labels(row: dict[str, Any], grouped: bool) -> tuple[str, ...]:
    group = (row["group"] or "all",) if grouped else ()
    return (row["features"], *group, row["level"])


def _row_headings(grouped: bool) -> tuple[str, ...]:
    return ("from", *(("group",) if grouped else ()), "per")


def _show_classes(rows: list[dict[str, Any]], grouped: bool, wide: bool) -> None:
    folds = any(row["auroc_per_fold"] is not None for row in rows)
    show_table(
        [
            (
                *_row_labels(r, grouped),
                r["class"],
                between(r, "auroc"),
                *(
                    ("-" if r["auroc_per_fold"] is None else f"{r['auroc_per_fold']:.3f}",)
                    if folds
                    else ()
                ),
                *(between(r, name) for name in ("auprc", "f1")),
                *("-" if r[n] is None else f"{r[n]:.3f}" for n in _OVERALL),
                r["clips"],
                r["subjects"],
            )
            for r in rows
        ],
        (
            *(*_row_headings(grouped), "class", "AUROC [95 %]", *(("per fold",) if folds else ())),
            *("AUPRC [95 %]", "F1 [95 %]"),
            *("accuracy", "kappa", "calib. error", "answered", "n", "subjects"),
        ),
        secondary=() if wide else _SECONDARY,
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


_TITLES = {"auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "kappa": "kappa", "mae": "MAE", "r": "r"}
_SECONDARY = ("per fold", "AUPRC [95 %]", "F1 [95 %]", "accuracy", "calib. error", "answered")
_OVERALL = ("accuracy", "kappa", "calibration_error", "answered")


def _penalty(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"-c must be a number or auto, got {text!r}") from None


def whole_numbers(text: str) -> list[int]:
    """Read a list of whole numbers, e.g. ``1,2,4``."""
    try:
        return [int(part) for part in listed(text) or ()]
    except ValueError:
        raise typer.BadParameter(
            f"expected a list of numbers such as 1,2,4, got {text!r}"
        ) from None


def _draw(result: Any, path: Path, dpi: int, style: str | None, *, curve: bool) -> None:
    from sleepfm_index.evaluation.figures import panels
    from sleepfm_index.evaluation.figures.style import figure_style

    draw = panels.draw_few_shot if curve else panels.draw_assessment
    with figure_style(style):
        draw(result, path, dpi)
