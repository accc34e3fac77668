"""``sleepfm-index survival``: who has an event sooner, by subject vectors."""

from __future__ import annotations

from typing import Annotated

import typer

from sleepfm_cli.evaluate import between
from sleepfm_cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    IncludeSeenOption,
    SeedOption,
    StoreOption,
    WhereOption,
)
from sleepfm_cli.render import messages, say, show_arrow, show_table


def survival(
    time: Annotated[str, typer.Option(help="Column with the follow-up time of each subject.")],
    event: Annotated[
        str, typer.Option(help="Column that is true or 1 if follow-up ended with the event.")
    ],
    on: Annotated[
        str | None,
        typer.Option(help="Embeddings to use, e.g. bas,bas+ecg; default: each, and all joined."),
    ] = None,
    where: WhereOption = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of subjects.")] = 5,
    components: Annotated[
        int, typer.Option(min=1, help="Principal components of the subject vectors.")
    ] = 10,
    ridge: Annotated[float, typer.Option(min=0, help="Penalty on the coefficients.")] = 1.0,
    seed: SeedOption = 0,
    format: FormatOption = Format.table,  # noqa: A002
    include_seen: IncludeSeenOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Evaluate Cox regression on subject vectors, in folds of subjects.

    Example: sleepfm-index survival --time follow_up_years --event died
    """
    import sleepfm_index

    with sleepfm_index.open(store) as opened, messages.status("fitting Cox regressions"):
        result = opened.survival(
            time,
            event,
            on=on,
            where=where,
            folds=folds,
            components=components,
            ridge=ridge,
            seed=seed,
            include_seen=include_seen,
        )
    if format is not Format.table:
        show_arrow(result.table, format)
        return
    say(result.note)
    show_table(
        [
            (r["features"], between(r, "c_index"), r["events"], r["subjects"])
            for r in result.to_pylist()
        ],
        ("from", "C-index [95 %]", "events", "subjects"),
    )
