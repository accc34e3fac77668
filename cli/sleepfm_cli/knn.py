"""``sleepfm-index knn``: what the nearest labelled neighbours say."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from sleepfm_cli.options import (
    DEFAULT_STORE,
    ClassesOption,
    Exclusion,
    Format,
    FormatOption,
    Kind,
    KindOption,
    LabelOption,
    Modality,
    PlotOption,
    ReplicatesOption,
    SeedOption,
    StoreOption,
    Target,
    TestStoreOption,
    TestWhereOption,
    TrainWhereOption,
    WhereOption,
    listed,
)
from sleepfm_cli.probe import show_assessment
from sleepfm_cli.render import messages, say, show_arrow


def knn(
    label: LabelOption,
    modality: Annotated[Modality, typer.Option(help="What to search with.")] = Modality.bas,
    to: Annotated[
        Target | None, typer.Option(help="What to search in; default the same modality.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many neighbours vote.")] = 20,
    equal: Annotated[
        bool, typer.Option("--equal", help="All votes alike; default weighted by similarity.")
    ] = False,
    margin: Annotated[
        float, typer.Option(help="Abstain where the first two classes are closer than this.")
    ] = 0.0,
    exclude: Annotated[
        Exclusion, typer.Option(help="Who has no vote: the clip's own ...")
    ] = Exclusion.subject,
    where: WhereOption = None,
    kind: KindOption = Kind.auto,
    classes: ClassesOption = None,
    train_where: TrainWhereOption = None,
    test_where: TestWhereOption = None,
    test_store: TestStoreOption = None,
    queries: Annotated[
        int, typer.Option(min=1, help="Ask about at most so many clips, drawn at random.")
    ] = 10_000,
    seed: SeedOption = 0,
    replicates: ReplicatesOption = 1000,
    plot: PlotOption = None,
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Let the nearest labelled neighbours vote, and measure the vote; own subject left out.

    Example: sleepfm-index knn --label stage --modality ecg --to bas
    """
    import sleepfm_index
    from sleepfm_index.evaluation.models.knn import Vote

    vote = Vote(k=k, weighted=not equal, exclude=exclude.value, margin=margin)
    with ExitStack() as stack:
        opened = stack.enter_context(sleepfm_index.open(store))
        other = stack.enter_context(sleepfm_index.open(test_store)) if test_store else None
        stack.enter_context(messages.status("asking the neighbours"))
        result = opened.knn(
            label,
            modality=modality.value,
            to=to.value if to else None,
            vote=vote,
            where=where,
            kind=kind.value,
            classes=listed(classes),
            train_where=train_where,
            test_where=test_where,
            test_store=other,
            queries=queries,
            seed=seed,
            replicates=replicates,
        )
        trained = opened.manifest.weights.trained
    if plot is not None:
        from sleepfm_index.evaluation.figures import panels

        panels.draw_assessment(result, plot)
    if format is not Format.table:
        show_arrow(result.table, format)
        return
    say(result.note)
    if not trained:
        say("untrained weights: a random network's features", "bold yellow")
    show_assessment(result)
