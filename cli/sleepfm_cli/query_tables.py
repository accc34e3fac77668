"""The tables of ``sleepfm-index query``: clips, stretches and nights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleepfm_cli.cohort_tables import fitted
from sleepfm_cli.render import answers, cell, clock, show_table

if TYPE_CHECKING:
    from sleepfm_index import Result

_CLIP = ("clip_id", "recording", "subject", "time", "stage")
_SHOWN = ("clip_id", "recording_id", "subject_id", "stage")


def show_clips(
    result: Result,
    files: dict[str, Path],
    query_row: dict[str, Any] | None = None,
    modality: str = "",
    show: Sequence[str] = (),
) -> None:
    """Print clips, with the query clip above the clips found.

    Parameters
    ----------
    result : Result
        Rows of clips, with rank and score if they are search results.
    files : dict of str to Path
        Files of recordings, if known, by recording id.
    query_row : dict, optional
        Row of the query clip.
    modality : str
        Query modality.
    show : sequence of str
        Further columns.

    Raises
    ------
    QueryError
        If clips have no such column.
    """
    from sleepfm_index.evaluation.labels.columns import expect_columns

    own = ("rank", "score", "query_clip_id")
    expect_columns(show, [name for name in result.table.column_names if name not in own])
    show = [name for name in show if name not in _SHOWN]
    hits = result.to_pylist()
    ranked = "rank" in result.table.column_names
    rows: list[list[object]] = [
        [*([hit["rank"], f"{hit['score']:.4f}"] if ranked else []), *_clip(hit, show)]
        for hit in hits
    ]
    columns = [*(["rank", _score(result)] if ranked else []), *_CLIP, *show, "events"]
    events = len(columns) - 1
    if query_row is not None:
        rows.insert(0, ["query", modality, *_clip(query_row, show)])
        hits.insert(0, query_row)
    file_of_row = [files.get(hit["recording_id"]) for hit in hits]
    if any(
        file and file.stem != hit["recording_id"]
        for file, hit in zip(file_of_row, hits, strict=True)
    ):
        # Hashed ids are not informative; users with access to private/ may see file names.
        columns.append("file")
        for file, row in zip(file_of_row, rows, strict=True):
            row.append(file.name if file else None)
    console = answers()
    if console.is_terminal:  # a clip may have many events; a file has all of them
        texts = [[cell(value) for value in row] for row in rows]
        show_table(fitted(texts, columns, events, console.width), columns)
    else:
        show_table(rows, columns)


def _score(result: Result) -> str:
    """Return the heading of the score; the note says what was compared."""
    plain = "score: cosine" in result.note or "score: mean cosine" in result.note
    return "cosine" if plain and "nearest example to" not in result.note else "score"


def _clip(row: dict[str, Any], show: Sequence[str]) -> list[object]:
    from sleepfm_index.query.clip_facts import clip_events

    return [
        row["clip_id"],
        row["recording_id"],
        row["subject_id"],
        clock(row["clock"], row["start_s"]),
        row["stage"],
        *(row.get(name) for name in show),
        clip_events(row) or None,
    ]


def show_stretches(result: Result) -> None:
    """Print stretches of nights.

    Parameters
    ----------
    result : Result
        Result of ``Store.stretches``.
    """
    rows = []
    for hit in result.to_pylist():
        end = hit["end_s"] - hit["start_s"]
        rows.append(
            [
                hit["rank"],
                f"{hit['score']:.4f}",
                hit["clip_id"],
                hit["recording_id"],
                hit["subject_id"],
                clock(hit["clock"], hit["start_s"]),
                clock(None if hit["clock"] is None else hit["clock"] + end, hit["end_s"]),
                hit["stages"],
            ]
        )
    columns = ("rank", _score(result), "clip_id", "recording", "subject", "from", "until", "stages")
    show_table(rows, columns)


def show_nights(result: Result) -> None:
    """Print recordings by the similarity of their nights.

    Parameters
    ----------
    result : Result
        Result of ``Store.nights``.
    """
    rows = [
        [
            hit["rank"],
            f"{hit['distance']:.4f}",
            hit["recording_id"],
            hit["subject_id"],
            hit["clips"],
        ]
        for hit in result.to_pylist()
    ]
    show_table(rows, ("rank", "distance", "recording", "subject", "clips"))
