"""``sleepfm-index query``: which clips go with this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sleepfm_cli.options import (
    DEFAULT_STORE,
    Exclusion,
    Format,
    FormatOption,
    StoreOption,
    Target,
    WhereOption,
)
from sleepfm_cli.render import clock, say, show_arrow, show_table, stream_arrow


def query(
    modality: Annotated[
        str, typer.Option(help="What to search with: bas, ecg, resp, or two of them: ecg,resp.")
    ],
    to: Annotated[
        Target, typer.Option(help="What to search in; others = mean of the other modalities.")
    ] = Target.others,
    clip: Annotated[int | None, typer.Option(help="A clip of the store, by its id.")] = None,
    recording: Annotated[str | None, typer.Option(help="A recording of the store.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="A recording file; it is read and encoded.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Where in --recording or --file: HH:MM:SS, or +SECONDS from its start."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="Every clip of --recording asks; the answers are streamed."),
    ] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="How many clips to give.")] = 10,
    where: WhereOption = None,
    exclude: Annotated[
        Exclusion, typer.Option(help="Leave out the clips of the query's own ...")
    ] = Exclusion.subject,
    spread: Annotated[
        float | None,
        typer.Option(help="At most one clip per so many seconds of a recording, the nearest one."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every clip, whatever index there is.")
    ] = False,
    weights: Annotated[
        str | None, typer.Option(help="For --file: the store's weights, if not found by name.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also draw the clip and its neighbours as strips of signal: out.png."),
    ] = None,
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Find the clips nearest to one clip, across modalities.

    Example: sleepfm-index query --modality ecg --clip 17 --to bas
    """
    import sleepfm_index

    if plot is not None and (file is not None or every):
        raise typer.BadParameter("--plot needs one clip of the store, by --clip or --recording")
    if plot is not None and "," in modality:
        raise typer.BadParameter("--plot shows one modality")
    search: dict[str, Any] = {
        "k": k,
        "where": where,
        "exclude": exclude.value,
        "spread": spread,
        "exact": exact,
    }
    if every:
        if recording is None or (clip, file, at) != (None, None, None):
            raise typer.BadParameter("--all goes with --recording alone")
        with sleepfm_index.open(store) as opened:
            reader = opened.query_many(modality, to=to.value, recording=recording, **search)
            stream_arrow(reader, format)
            say((reader.schema.metadata or {}).get(b"note", b"").decode())
        return
    with sleepfm_index.open(store) as opened:
        result = opened.query(
            modality,
            to=to.value,
            clip=clip,
            recording=recording,
            file=file,
            at=at,
            weights=weights,
            **search,
        )
        trained = opened.manifest.weights.trained
        files = opened.files()
        if plot is not None:
            from sleepfm_index.evaluation import plots
            from sleepfm_index.evaluation.strips import neighbour_strips
            from sleepfm_index.query import clip_at

            own = clip if clip is not None else clip_at(opened, recording or "", at or "")
            plots.save(neighbour_strips(opened, own, result, modality, to.value), plot)
    if format is not Format.table:
        show_arrow(result.table, format)
        return
    say(result.note)
    if not trained:
        say("untrained weights: these neighbours mean nothing", "bold yellow")
    rows = [
        [
            hit["rank"],
            f"{hit['score']:.4f}",
            hit["clip_id"],
            hit["recording_id"],
            hit["subject_id"],
            clock(hit["clock"], hit["start_s"]),
            hit["stage"],
        ]
        for hit in result.to_pylist()
    ]
    columns = ["rank", "score", "clip_id", "recording", "subject", "time", "stage"]
    named = [files.get(row[3]) for row in rows]
    if any(file and file.stem != row[3] for file, row in zip(named, rows, strict=True)):
        # Hashed ids tell a person nothing; who holds private/ may see the files behind them.
        columns.append("file")
        for file, row in zip(named, rows, strict=True):
            row.append(file.name if file else None)
    show_table(rows, columns)
