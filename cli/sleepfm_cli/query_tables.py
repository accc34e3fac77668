"""The tables of ``sleepfm-index query``: clips, stretches and nights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleepfm_cli.cohort_tables import fitted
from sleepfm_cli.render import cell, clock, show_table

if TYPE_CHECKING:
    from sleepfm_index import Result

_CLIP = ("clip_id", "recording", "subject", "time", "stage", "events")


def show_clips(
    result: Result,
    files: dict[str, Path],
    own: dict[str, Any] | None = None,
    modality: str = "",
) -> None:
    """Show clips, the one that asked above those that were found.

    Parameters
    ----------
    result : Result
        Rows of clips; with rank and score where they were searched for.
    files : dict of str to Path
        Files of recordings, where known.
    own : dict, optional
        The row of the clip that asked.
    modality : str
        What was searched with.
    """
    hits = result.to_pylist()
    ranked = "rank" in result.table.column_names
    rows: list[list[object]] = [
        [*([hit["rank"], f"{hit['score']:.4f}"] if ranked else []), *_clip(hit)] for hit in hits
    ]
    columns = [*(["rank", _score(result)] if ranked else []), *_CLIP]
    if own is not None:
        rows.insert(0, ["query", modality, *_clip(own)])
        hits.insert(0, own)
    named = [files.get(hit["recording_id"]) for hit in hits]
    if any(
        file and file.stem != hit["recording_id"] for file, hit in zip(named, hits, strict=True)
    ):
        # Hashed ids tell a person nothing; who holds private/ may see the files behind them.
        columns.append("file")
        for file, row in zip(named, rows, strict=True):
            row.append(file.name if file else None)
    # A clip with many events; CSV, JSON and Parquet have all of them.
    texts = [[cell(value) for value in row] for row in rows]
    show_table(fitted(texts, columns, columns.index("events")), columns)


def _score(result: Result) -> str:
    """Name the score in the head of the table; the note says of what with what."""
    plain = "score: cosine" in result.note or "score: mean cosine" in result.note
    return "cosine" if plain and "nearest example to" not in result.note else "score"


def _clip(row: dict[str, Any]) -> list[object]:
    from sleepfm_index.query.clip_facts import clip_events

    return [
        row["clip_id"],
        row["recording_id"],
        row["subject_id"],
        clock(row["clock"], row["start_s"]),
        row["stage"],
        clip_events(row) or None,
    ]


def show_stretches(result: Result) -> None:
    """Show stretches of nights.

    Parameters
    ----------
    result : Result
        As from ``Store.stretches``.
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
    """Show recordings by how alike their nights are.

    Parameters
    ----------
    result : Result
        As from ``Store.nights``.
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
