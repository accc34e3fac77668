"""``sleepfm-index query``: nearest clips, stretches and nights across modalities."""

from __future__ import annotations

from dataclasses import dataclass
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
    OutOption,
    StoreOption,
    StyleOption,
    SubstituteOption,
    UriOption,
    WhereOption,
    condition,
)
from sleepfm_cli.outputs import Destination, destination, expect_figure
from sleepfm_cli.query_inputs import ids_of, ids_or_condition, lists_of, names_of
from sleepfm_cli.query_tables import show_clips, show_nights, show_stretches
from sleepfm_cli.render import say, show_arrow, stream_arrow
from sleepfm_index.choices import Combine, Exclusion, QueryEngine

if TYPE_CHECKING:
    from sleepfm_index import Result, Store
    from sleepfm_index.query.question import Question


def query(
    modality: Annotated[
        str | None,
        typer.Option(help="Query modality, or several: ecg,resp."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Modality to search. By default others, the mean of the modalities other than "
            "--modality; for stretches and nights, the same as --modality."
        ),
    ] = None,
    clip: Annotated[
        list[str] | None,
        typer.Option(help="Id of a clip of the store, or several: 17,18,240; may be repeated."),
    ] = None,
    like_where: Annotated[
        str | None,
        typer.Option(
            callback=condition, help="SQL condition; all clips that meet it are examples."
        ),
    ] = None,
    unlike: Annotated[
        str | None,
        typer.Option(
            callback=condition, help="Negative examples: ids, e.g. 40,41, or an SQL condition."
        ),
    ] = None,
    combine: Annotated[
        Combine,
        typer.Option(
            help="Several examples: by the mean of their vectors, or by the nearest example."
        ),
    ] = "mean",
    vector: Annotated[
        Path | None, typer.Option(help="An .npy file of one vector, [512], or several, [n, 512].")
    ] = None,
    recording: Annotated[str | None, typer.Option(help="A recording of the store.")] = None,
    file: Annotated[Path | None, typer.Option(help="A recording file to read and encode.")] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Time in --recording or --file: HH:MM:SS, or +SECONDS from its start."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Start of a stretch of --recording; finds similar stretches."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="End of the stretch.")] = None,
    elastic: Annotated[
        bool,
        typer.Option("--elastic", help="Stretches: by dynamic time warping (extra [elastic])."),
    ] = False,
    night: Annotated[
        bool, typer.Option("--night", help="Rank whole recordings by similarity to --recording.")
    ] = False,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Query with every clip of --recording; answers are streamed. Filters "
            "restrict what each clip may find.",
        ),
    ] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of results.")] = 10,
    where: WhereOption = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="A condition in words, e.g. 'N3 with slow breathing after an apnea'. It is "
            "translated to SQL by rules and printed; without a query, its clips are listed."
        ),
    ] = None,
    among: Annotated[
        Path | None, typer.Option(help="Search only the clips whose ids are in this file.")
    ] = None,
    exclude: Annotated[
        Exclusion,
        typer.Option(help="Exclude the clips of the query's subject, of its recording, or none."),
    ] = "subject",
    exclude_subjects: Annotated[
        Path | None, typer.Option(help="Exclude the subjects whose ids are in this file.")
    ] = None,
    min_gap: Annotated[
        float | None,
        typer.Option(help="Minimum time between results of one recording, in seconds."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every clip instead of using an index.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(help="For --file: file of the store's weights, if not found by name."),
    ] = None,
    substitute: SubstituteOption = None,
    channels: ChannelsOption = None,
    show: Annotated[
        str | None,
        typer.Option(help="Further columns in the table of clips, e.g. rr_mean_s,nsrr_age."),
    ] = None,
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
    out: OutOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Find the nearest clips, stretches or nights, across modalities.

    For example:

    sleepfm-index query --modality ecg --clip 17 --to bas

    sleepfm-index query --modality resp --recording sim-0003 --night

    sleepfm-index query --modality bas --file other.edf --at +5400

    sleepfm-index query --text "N3 with slow breathing after an apnea"
    """
    expect_figure(plot)
    answer = destination(out, format)
    clips = ids_of("--clip", clip)
    lists = lists_of(among, exclude_subjects)
    examples = (clips, like_where, unlike, vector, file, at)
    if engine != "local" and (
        every or exact or min_gap or text or night or start or until or lists
        or any(one is not None for one in (like_where, unlike, vector)) or len(clips or ()) > 1
    ):  # fmt: skip
        raise typer.BadParameter(
            f"--engine {engine} supports one clip and --where; other options require --engine local"
        )
    if show and (night or every or start is not None or answer.format is not Format.table):
        raise typer.BadParameter(
            "--show adds columns to the table of clips; it does not apply to --night, --from and "
            "--all, and CSV, JSON and Parquet have all columns"
        )
    if text is not None:
        where = _in_words(store, text, where)
        query_options = (*examples, recording, start, until)
        if all(one is None for one in query_options) and not night:
            _list_clips(store, where, k, answer, names_of(show))
            return
    if modality is None:
        raise typer.BadParameter("name the query modality with --modality, e.g. ecg")
    scope = {"k": k, "where": where, "exclude": exclude, **lists}
    if start is not None or until is not None or elastic:
        if recording is None or start is None or until is None:
            raise typer.BadParameter("a stretch needs --recording, --from and --until")
        if any(one is not None for one in examples) or every or night or min_gap or plot:
            raise typer.BadParameter(
                "a stretch cannot be combined with other examples, --all, --night, --min-gap or "
                "--plot"
            )
        stretch = {"recording": recording, "start": start, "until": until, "to": to}
        scope |= {"exact": exact, "elastic": elastic}
        result, trained, _ = _ask(store, lambda s: s.stretches(modality, **stretch, **scope))
        _show(result, trained, answer, lambda: show_stretches(result))
        return
    if night:
        other_examples = (clips, unlike, vector, file, at)
        if (
            recording is None
            or any(one is not None for one in other_examples)
            or every
            or min_gap
            or plot
        ):
            raise typer.BadParameter("a night is named by --recording alone, or with --like-where")
        if to not in (None, modality):
            raise typer.BadParameter("nights are compared in one modality; leave --to out")
        night_query = {"recording": recording, "like_where": like_where, "exact": exact, **scope}
        result, trained, _ = _ask(store, lambda s: s.nights(modality, **night_query))
        _show(result, trained, answer, lambda: show_nights(result))
        return
    if plot is not None and (file or every or vector or engine != "local" or len(clips or ()) > 1):
        raise typer.BadParameter("--plot requires one clip of the store: --clip or --recording")
    if plot is not None and (like_where is not None or "," in modality):
        raise typer.BadParameter("--plot supports a single clip and a single modality")
    if every:
        if recording is None or any(one is not None for one in examples):
            raise typer.BadParameter(
                "--all queries with every clip of --recording, and with no other example"
            )
        stream_query = {"recording": recording, "min_gap": min_gap, "exact": exact, **scope}
        _stream(store, modality, to or "others", stream_query, answer)
        return
    if (substitute, channels) != (None, None) and file is None:
        raise typer.BadParameter("--substitute and --channels require --file")
    question: dict[str, Any] = {
        "to": to or "others",
        "recording": recording,
        "file": file,
        "at": at,
        "weights": weights,
        "substitute": substitute,
        "channels": channels,
        "like_where": like_where,
        "unlike": ids_or_condition(unlike),
        "combine": combine,
        **scope,
    }
    question["clip"] = clips[0] if clips is not None and len(clips) == 1 else clips
    if engine == "local":
        if vector is not None:
            from sleepfm_index.query.lists import read_array

            question["vector"] = read_array(vector)
        question |= {"min_gap": min_gap, "exact": exact}
        result, trained, context = _ask(store, lambda s: _nearest(s, modality, question))
    else:
        from sleepfm_index.query.question import Question

        result, trained, context = _ask_engine(
            engine, uri, collection, store, Question(modality, **question)
        )
    if to is None:
        say(
            "--to is not given, so that other modalities are compared; clips that are alike in "
            f"{modality}: --to {modality.split(',')[0]}"
        )
    _show(
        result,
        trained,
        answer,
        lambda: show_clips(result, context.files, context.query_row, modality, show=names_of(show)),
    )
    if plot is not None:
        _draw(store, result, modality, question, Drawing(plot, dpi, style))


class Drawing(NamedTuple):
    """Path, resolution and style of a figure."""

    path: Path
    dpi: int
    style: str | None


@dataclass(frozen=True)
class TableContext:
    """Additional information for the table of an answer.

    Parameters
    ----------
    files : dict of str to Path
        Files of recordings, if known, by recording id.
    query_row : dict, optional
        Row of the query clip.
    """

    files: dict[str, Path]
    query_row: dict[str, Any] | None = None


def _ask(store: Path, run: Any) -> tuple[Result, bool, TableContext]:
    import sleepfm_index

    with sleepfm_index.open(store) as opened:
        answer = run(opened)
        result, context = answer if isinstance(answer, tuple) else (answer, TableContext({}))
        return result, opened.manifest.weights.trained, context


def _nearest(opened: Store, modality: str, question: dict[str, Any]) -> tuple[Result, TableContext]:
    import numpy as np

    result = opened.query(modality, **question)
    query_row, clip = None, question["clip"]
    if question["recording"] is not None and question["at"] is not None:
        from sleepfm_index.query.origin import clip_at

        clip = clip_at(opened, question["recording"], question["at"])
    if isinstance(clip, int):
        (query_row,) = opened.rows(np.array([clip])).to_pylist()
    return result, TableContext(opened.files(), query_row)


def _show(result: Result, trained: bool, answer: Destination, table: Any) -> None:
    if answer.format is not Format.table:
        answer.show(lambda: show_arrow(result.table, answer.format))
        if answer.path is not None:
            say(result.note)
        return
    say(result.note)
    if not trained:
        say("untrained weights: these neighbours are meaningless", "bold yellow")
    table()


def _in_words(store: Path, text: str, where: str | None) -> str:
    """Translate words into SQL, print the translation, and combine it with a condition."""
    import sleepfm_index

    with sleepfm_index.open(store) as opened:
        translation = opened.translate(text)
    for words, sql in translation.phrases:
        say(f"  {words}: {sql}")
    return translation.sql if where is None else f"({where}) AND ({translation.sql})"


def _list_clips(store: Path, where: str, k: int, answer: Destination, show: list[str]) -> None:
    import numpy as np

    import sleepfm_index
    from sleepfm_index.results import Result

    with sleepfm_index.open(store) as opened:
        ids = opened.metadata.clip_ids(where)
        rows = opened.rows(np.asarray(ids[:k]))
        shown = f"the first {k} of " if len(ids) > k else ""
        result = Result(rows, f"{shown}{len(ids):,} clips where {where}")
        files = opened.files()
    _show(result, True, answer, lambda: show_clips(result, files, show=show))


def _stream(
    store: Path,
    modality: str,
    to: str,
    question: dict[str, Any],
    answer: Destination,
) -> None:
    import sleepfm_index

    with sleepfm_index.open(store) as opened:
        reader = opened.query_many(modality, to, **question)
        answer.show(lambda: stream_arrow(reader, answer.format))
        say((reader.schema.metadata or {}).get(b"note", b"").decode())


def _draw(
    store: Path, result: Result, modality: str, question: dict[str, Any], drawing: Drawing
) -> None:
    import sleepfm_index
    from sleepfm_index.evaluation.figures.signal_strips import neighbour_strips
    from sleepfm_index.evaluation.figures.style import figure_style, save
    from sleepfm_index.query.origin import clip_at

    with sleepfm_index.open(store) as opened:
        clip = question["clip"]
        if clip is None:
            clip = clip_at(opened, question["recording"] or "", question["at"] or "")
        with figure_style(drawing.style):
            drawn = neighbour_strips(opened, clip, result, modality, question["to"])
            save(drawn, drawing.path, drawing.dpi)


def _ask_engine(
    engine: str, uri: str, collection: str, store: Path, question: Question
) -> tuple[Result, bool, TableContext]:
    import sleepfm_index

    if not uri:
        raise typer.BadParameter(f"--engine {engine} requires --uri, where the store was published")
    with sleepfm_index.connect(uri, engine=engine, collection=collection, store=store) as served:
        return served.answer(question), served.weights.trained, TableContext({})
