"""``sleepfm-index query``: nearest clips across modalities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from sleepfm_cli.options import (
    DEFAULT_STORE,
    ChannelsOption,
    CollectionOption,
    DpiOption,
    Format,
    FormatOption,
    StoreOption,
    StyleOption,
    SubstituteOption,
    UriOption,
    WhereOption,
)
from sleepfm_cli.render import clock, say, show_arrow, show_table, stream_arrow
from sleepfm_index.choices import Exclusion, QueryEngine

if TYPE_CHECKING:
    from sleepfm_index import Result, Store
    from sleepfm_index.query.question import Question


def query(
    modality: Annotated[
        str,
        typer.Option(help="Query modality, or several: ecg,resp."),
    ],
    to: Annotated[
        str,
        typer.Option(help="Target modality; others = mean of the other modalities."),
    ] = "others",
    clip: Annotated[int | None, typer.Option(help="Id of a clip of the store.")] = None,
    recording: Annotated[str | None, typer.Option(help="A recording of the store.")] = None,
    file: Annotated[Path | None, typer.Option(help="A recording file to read and encode.")] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Time in --recording or --file: HH:MM:SS, or +SECONDS from its start."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="Query with every clip of --recording; answers are streamed."),
    ] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of results.")] = 10,
    where: WhereOption = None,
    exclude: Annotated[Exclusion, typer.Option(help="Exclude clips of the same ...")] = "subject",
    min_gap: Annotated[
        float | None,
        typer.Option(help="Minimum time between results of one recording, in seconds."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every clip instead of using an index.")
    ] = False,
    weights: Annotated[
        str | None, typer.Option(help="For --file: the weights of the store, if not found by name.")
    ] = None,
    substitute: SubstituteOption = None,
    channels: ChannelsOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also plot the signals of the clip and its neighbours: out.png."),
    ] = None,
    dpi: DpiOption = 200,
    style: StyleOption = None,
    engine: Annotated[
        QueryEngine,
        typer.Option(help="Search backend: this store, or the engine it was published to."),
    ] = "local",
    uri: UriOption = "",
    collection: CollectionOption = "sleepfm_clips",
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Find the clips nearest to one clip, across modalities.

    Example: sleepfm-index query --modality ecg --clip 17 --to bas
    """
    if plot is not None and (file is not None or every or engine != "local"):
        raise typer.BadParameter("--plot requires one clip of the store: --clip or --recording")
    if plot is not None and "," in modality:
        raise typer.BadParameter("--plot supports a single modality")
    if engine != "local" and (every or exact or min_gap):
        raise typer.BadParameter("--all, --exact and --min-gap require --engine local")
    question: dict[str, Any] = {"to": to, "k": k, "where": where, "exclude": exclude}
    if every:
        if recording is None or (clip, file, at) != (None, None, None):
            raise typer.BadParameter("--all requires --recording only")
        question |= {"recording": recording, "min_gap": min_gap, "exact": exact}
        _stream(store, modality, question, format)
        return
    question |= {"clip": clip, "recording": recording, "file": file, "at": at, "weights": weights}
    if (substitute, channels) != (None, None):
        if file is None:
            raise typer.BadParameter("--substitute and --channels require --file")
        question |= {"substitute": substitute, "channels": channels}
    if engine == "local":
        question |= {"min_gap": min_gap, "exact": exact}
        drawing = None if plot is None else Drawing(plot, dpi, style)
        result, trained, files = _ask_store(store, modality, question, drawing)
    else:
        from sleepfm_index.query.question import Question

        result, trained, files = _ask_engine(
            engine, uri, collection, store, Question(modality, **question)
        )
    if format is not Format.table:
        show_arrow(result.table, format)
        return
    say(result.note)
    if not trained:
        say("untrained weights: these neighbours are meaningless", "bold yellow")
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


class Drawing(NamedTuple):
    """Where a figure is written, and how."""

    path: Path
    dpi: int
    style: str | None


Answer = tuple["Result", bool, dict[str, Path]]
"""Rows, whether the weights were ever trained, and the files of recordings where known."""


def _stream(store: Path, modality: str, question: dict[str, Any], format: Format) -> None:  # noqa: A002
    import sleepfm_index

    with sleepfm_index.open(store) as opened:
        reader = opened.query_many(modality, **question)
        stream_arrow(reader, format)
        say((reader.schema.metadata or {}).get(b"note", b"").decode())


def _ask_store(
    store: Path, modality: str, question: dict[str, Any], drawing: Drawing | None
) -> Answer:
    import sleepfm_index

    with sleepfm_index.open(store) as opened:
        result = opened.query(modality, **question)
        if drawing is not None:
            _draw(opened, result, modality, question, drawing)
        return result, opened.manifest.weights.trained, opened.files()


def _draw(
    opened: Store, result: Result, modality: str, question: dict[str, Any], drawing: Drawing
) -> None:
    from sleepfm_index.evaluation.figures.signal_strips import neighbour_strips
    from sleepfm_index.evaluation.figures.style import figure_style, save
    from sleepfm_index.query.origin import clip_at

    clip = question["clip"]
    if clip is None:
        clip = clip_at(opened, question["recording"] or "", question["at"] or "")
    with figure_style(drawing.style):
        drawn = neighbour_strips(opened, clip, result, modality, question["to"])
        save(drawn, drawing.path, drawing.dpi)


def _ask_engine(engine: str, uri: str, collection: str, store: Path, question: Question) -> Answer:
    import sleepfm_index

    if not uri:
        raise typer.BadParameter(f"--engine {engine} requires --uri, where the store was published")
    with sleepfm_index.connect(uri, engine=engine, collection=collection, store=store) as served:
        return served.answer(question), served.weights.trained, {}
