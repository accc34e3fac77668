"""``sleepfm-index evaluate``: how well the modalities find each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, Format, FormatOption, StoreOption, WhereOption
from sleepfm_cli.render import messages, say, show_arrow, show_table

if TYPE_CHECKING:
    from sleepfm_index import Result


def evaluate(
    where: WhereOption = None,
    gallery: Annotated[
        int | None, typer.Option(min=1, help="Draw this many clips; default all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Measure retrieval for every ordered pair and every modality to the others.

    Recall@k beside its chance level, median rank and mean reciprocal rank. Ties count against.
    """
    import sleepfm_index

    with sleepfm_index.open(store) as opened, messages.status("comparing every pair of clips"):
        result = opened.evaluate(where=where, gallery=gallery, seed=seed)
        trained = opened.manifest.weights.trained
    if format is not Format.table:
        show_arrow(result.table, format)
        return
    say(result.note)
    if not trained:
        say("untrained weights: expect chance", "bold yellow")
    show_recall(result)


def show_recall(result: Result) -> None:
    """Print a table of retrieval, each recall with its chance level in brackets."""
    show_table(
        [
            (
                f"{row['query']} -> {row['target']}",
                *(f"{row[f'recall_at_{k}']:.3f} ({row[f'chance_at_{k}']:.3f})" for k in (1, 5, 10)),
                row["median_rank"],
                f"{row['mrr']:.3f}",
                row["gallery"],
                row["seed"],
            )
            for row in result.to_pylist()
        ],
        ("pair", "R@1 (chance)", "R@5", "R@10", "median rank", "MRR", "gallery", "seed"),
    )
