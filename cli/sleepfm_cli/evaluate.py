"""``sleepfm-index evaluate``: cross-modal retrieval."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sleepfm_cli.options import (
    DEFAULT_STORE,
    DpiOption,
    Format,
    FormatOption,
    IncludeSeenOption,
    PlotOption,
    ReplicatesOption,
    SeedOption,
    StoreOption,
    StyleOption,
    WhereOption,
    WideOption,
)
from sleepfm_cli.outputs import expect_figure
from sleepfm_cli.render import messages, progress, say, show_arrow, show_table
from sleepfm_index.choices import Among

if TYPE_CHECKING:
    from sleepfm.cohort_choices import Choices
    from sleepfm_index import Result
    from sleepfm_index.evaluation.retrieval.fewer_slots import FewerSlots


_SECONDARY: Final = ("R@5", "MRR", "gallery", "top hit same stage/subj./min.", "seed")


def evaluate(
    where: WhereOption = None,
    gallery: Annotated[
        int | None, typer.Option(min=1, help="Size of a random gallery; default: all clips.")
    ] = None,
    seed: SeedOption = 0,
    wide: WideOption = False,
    draws: Annotated[int, typer.Option(min=1, help="Number of random galleries.")] = 1,
    gallery_scope: Annotated[
        Among,
        typer.Option(
            help="Candidates: all clips, other recordings only, or the same recording only."
        ),
    ] = "all",
    by: Annotated[
        str | None, typer.Option(help="Also report each value of this column, e.g. stage.")
    ] = None,
    combinations: Annotated[
        bool,
        typer.Option(
            "--combinations", help="Also retrieve each modality from all others combined."
        ),
    ] = False,
    against: Annotated[
        Path | None, typer.Option(help="Another store of the same recordings; report differences.")
    ] = None,
    without_slots: Annotated[
        list[Path] | None,
        typer.Option(
            "--without-slots",
            help="Instead of the store, evaluate these recordings, encoded with its weights and "
            "with ever fewer channels; may be repeated. Of the other options, --gallery, --seed, "
            "--include-seen and those of the figure and format apply.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="With --without-slots: weights to use instead of the store's."),
    ] = None,
    channels: Annotated[
        Path | None, typer.Option(help="With --without-slots: a channels file.")
    ] = None,
    subjects: Annotated[
        Path | None, typer.Option(help="With --without-slots: subjects.csv.")
    ] = None,
    replicates: ReplicatesOption = None,
    plot: PlotOption = None,
    dpi: DpiOption = 200,
    style: StyleOption = None,
    format: FormatOption = Format.table,  # noqa: A002
    include_seen: IncludeSeenOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Measure cross-modal retrieval for every query and target.

    Reports recall@k with its chance level, median rank and mean reciprocal rank, with 95 %
    intervals over subjects. Ties count against the matching clip.
    """
    import sleepfm_index
    from sleepfm.cohort_choices import NO_CHOICES

    expect_figure(plot)
    if without_slots:
        _refuse_with_slots(
            where=where is not None,
            draws=draws > 1,
            gallery_scope=gallery_scope != "all",
            by=by is not None,
            combinations=combinations,
            against=against is not None,
        )
        name, choices = weights, NO_CHOICES
        if name is None:
            with sleepfm_index.open(store) as opened:
                name, choices = opened.manifest.weights.name, opened.manifest.choices
        result_by_slots = _fewer_slots(
            without_slots, name, choices, channels, subjects, gallery, seed, include_seen
        )
        show_fewer_slots(result_by_slots, format)
        if plot is not None:
            _draw_fewer_slots(result_by_slots, plot, dpi, style)
        return
    if weights or channels or subjects:
        raise typer.BadParameter("--weights, --channels and --subjects require --without-slots")
    options: dict[str, Any] = {
        "where": where,
        "gallery": gallery,
        "seed": seed,
        "draws": draws,
        "among": gallery_scope,
        "include_seen": include_seen,
    }
    if against is not None and (by or combinations or plot):
        raise typer.BadParameter("--against cannot be combined with --by, --combinations or --plot")
    with ExitStack() as stack:
        opened = stack.enter_context(sleepfm_index.open(store))
        stack.enter_context(messages.status("comparing every pair of clips"))
        if against is not None:
            other = stack.enter_context(sleepfm_index.open(against))
            result = opened.evaluate(against=other, **options)
        else:
            result = opened.evaluate(by=by, combinations=combinations, **options)
        trained = opened.manifest.weights.trained
    if format is not Format.table:
        show_arrow(result.table, format)
    else:
        say(result.note)
        if not trained:
            say("untrained weights: expect chance", "bold yellow")
        if against is not None:
            show_differences(result)
        else:
            show_recall(result, wide=wide)
    if plot is not None:
        from sleepfm_index.evaluation.figures import panels
        from sleepfm_index.evaluation.figures.style import figure_style

        if by:
            say("the figure shows all clips; the groups are in the table")
        with figure_style(style):
            panels.draw_retrieval(result, plot, dpi)  # type: ignore[arg-type]


def _refuse_with_slots(**given: bool) -> None:
    """Refuse the given options, which choose clips of a store."""
    names = [f"--{name.replace('_', '-')}" for name, is_given in given.items() if is_given]
    if names:
        raise typer.BadParameter(
            f"--without-slots cannot be combined with {', '.join(names)}: it measures recordings, "
            "not the clips of a store"
        )


def _draw_fewer_slots(result: FewerSlots, path: Path, dpi: int, style: str | None) -> None:
    from sleepfm_index.evaluation.figures import panels
    from sleepfm_index.evaluation.figures.style import figure_style

    with figure_style(style):
        panels.draw_fewer_slots(result, path, dpi)


def _fewer_slots(
    paths: list[Path],
    weights: str,
    choices: Choices,
    channels: Path | None,
    subjects: Path | None,
    gallery: int | None,
    seed: int,
    include_seen: bool,
) -> FewerSlots:
    from sleepfm.encoders.inference import Encoder
    from sleepfm.encoders.load import find_weights
    from sleepfm.encoders.seen import Seen
    from sleepfm_index.building.preparation import Preparation
    from sleepfm_index.building.subjects import no_subjects, read_subjects
    from sleepfm_index.evaluation.retrieval.fewer_slots import fewer_slots

    loaded = find_weights(weights)
    people = no_subjects()
    if subjects is not None:
        people = read_subjects(subjects, loaded.contract.modalities)
    with progress("encoding with fewer slots") as bar:
        return fewer_slots(
            paths,
            Encoder(loaded, "cpu", backend="auto").encode,
            Preparation(loaded.contract, choices.updated(loaded.contract, channels=channels)),
            subjects=people.marked(Seen.of_record(loaded.record)),
            gallery=gallery,
            seed=seed,
            include_seen=include_seen,
            progress=lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total),
        )


def show_fewer_slots(result: Result, form: Format) -> None:
    """Print retrieval and stages against the remaining slots."""
    if form is not Format.table:
        show_arrow(result.table, form)
        return
    say(result.note)
    show_table(
        [
            (
                row["modality"],
                f"{row['slots_left']} of {row['slots']}",
                f"{between(row, 'recall_at_10')} ({row['chance_at_10']:.3f})",
                between(row, "stage_auroc"),
                _tested(row),
            )
            for row in result.to_pylist()
        ],
        (
            "modality",
            "slots left",
            "R@10 [95 %] (chance)",
            "stage AUROC [95 %]",
            "subjects (staged)",
        ),
    )


def _tested(row: dict[str, Any]) -> str:
    """Return the number of subjects, and of those whose stages were predicted."""
    return f"{row['subjects']}" + (f" ({row['stage_subjects']})" if row["stage_subjects"] else "")


def show_recall(result: Result, *, wide: bool = False) -> None:
    """Print a table of retrieval, each recall with its chance level in brackets."""
    rows = result.to_pylist()
    groups = any(row.get("group") is not None for row in rows)
    show_table(
        [
            (
                f"{row['query']} -> {row['target']}",
                *([row["group"] or "all"] if groups else []),
                f"{between(row, 'recall_at_1')} ({row['chance_at_1']:.3f})",
                *(f"{row[f'recall_at_{k}']:.3f} ({row[f'chance_at_{k}']:.3f})" for k in (5, 10)),
                row["median_rank"],
                f"{row['mrr']:.3f}",
                f"{row['gallery']:,}",
                "/".join(
                    "-" if row[f"top_same_{name}"] is None else f"{row[f'top_same_{name}']:.0%}"
                    for name in ("stage", "subject", "minute")
                ),
                row["seed"],
            )
            for row in rows
        ],
        (
            "pair",
            *(["group"] if groups else []),
            "R@1 [95 %] (chance)",
            "R@5",
            "R@10",
            "median rank",
            "MRR",
            "gallery",
            "top hit same stage/subj./min.",
            "seed",
        ),
        secondary=() if wide else _SECONDARY,
    )


def show_differences(result: Result) -> None:
    """Print paired differences between two stores."""
    names = ("recall_at_1", "recall_at_10", "mrr", "median_rank")
    show_table(
        [
            (
                f"{row['query']} -> {row['target']}",
                *(
                    f"{row[name]:.3f} - {row[f'{name}_against']:.3f} = "
                    + between(row, f"{name}_difference", "+.3f")
                    + ("" if row[f"{name}_p_holm"] is None else f", {row[f'{name}_p_holm']:.3f}")
                    for name in names
                ),
                row["queries"],
            )
            for row in result.to_pylist()
        ],
        (
            "pair",
            *(f"{name} [95 %], p (Holm)" for name in ("R@1", "R@10", "MRR", "median rank")),
            "queries",
        ),
    )


def between(row: dict[str, Any], name: str, form: str = ".3f") -> str:
    """Write a measure with its interval, ``0.512 [0.480, 0.551]``; ``-`` where it is undefined."""
    value, low, high = row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high")
    if value is None:
        return "-"
    if low is None or high is None:
        return f"{value:{form}}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
