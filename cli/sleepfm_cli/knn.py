"""``sleepfm-index knn``: k-nearest-neighbour classification."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

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
from sleepfm_cli.outputs import expect_figure
from sleepfm_cli.probe import show_assessment
from sleepfm_cli.render import messages, say, show_arrow
from sleepfm_index.choices import Exclusion


def knn(
    label: LabelOption,
    sdb_rule: SdbRuleOption = None,
    modality: Annotated[str, typer.Option(help="Query modality.")] = "bas",
    to: Annotated[
        str | None,
        typer.Option(help="Target modality, or others; default: the query modality."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of neighbours.")] = 20,
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Equal votes; default: weighted by similarity.")
    ] = False,
    margin: Annotated[
        float, typer.Option(help="Abstain where the first two classes are closer than this.")
    ] = 0.0,
    exclude: Annotated[
        Exclusion, typer.Option(help="Exclude neighbours of the query's subject or recording.")
    ] = "subject",
    where: WhereOption = None,
    task: TaskOption = "auto",
    classes: ClassesOption = None,
    train_where: TrainWhereOption = None,
    test_where: TestWhereOption = None,
    test_store: TestStoreOption = None,
    against: AgainstOption = None,
    queries: Annotated[
        int, typer.Option(min=1, help="Maximum number of query clips, drawn at random.")
    ] = 10_000,
    seed: SeedOption = 0,
    wide: WideOption = False,
    replicates: ReplicatesOption = None,
    plot: PlotOption = None,
    dpi: DpiOption = 200,
    style: StyleOption = None,
    format: FormatOption = Format.table,  # noqa: A002
    include_seen: IncludeSeenOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Evaluate k-NN classification; the query's subject is excluded.

    Example: sleepfm-index knn --label stage --modality ecg --to bas
    """
    import sleepfm_index
    from sleepfm_index.evaluation.models.knn import Vote

    expect_figure(plot)
    label = by_sdb_rule(label, sdb_rule)
    vote = Vote(k=k, weighted=not unweighted, exclude=exclude, margin=margin)
    with ExitStack() as stack:
        opened = stack.enter_context(sleepfm_index.open(store))
        other = stack.enter_context(sleepfm_index.open(test_store)) if test_store else None
        second = stack.enter_context(sleepfm_index.open(against)) if against else None
        stack.enter_context(messages.status("searching neighbours"))
        result = opened.knn(
            label,
            modality=modality,
            to=to,
            vote=vote,
            where=where,
            task=task,
            classes=listed(classes),
            train_where=train_where,
            test_where=test_where,
            test_store=other,
            against=second,
            queries=queries,
            seed=seed,
            include_seen=include_seen,
        )
        trained = opened.manifest.weights.trained
    if format is not Format.table:
        show_arrow(result.table, format)
    else:
        say(result.note)
        if not trained:
            say("untrained weights: a random network's features", "bold yellow")
        show_assessment(result, wide=wide)
    if plot is not None:
        from sleepfm_index.evaluation.figures import panels
        from sleepfm_index.evaluation.figures.style import figure_style

        with figure_style(style):
            panels.draw_assessment(result, plot, dpi)
