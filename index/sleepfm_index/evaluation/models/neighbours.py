"""The nearest neighbours of given clips, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns
from sleepfm_index.evaluation.models.knn import Vote, search_target
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.storage.quoting import quote_text


def neighbours(
    store: Reader,
    modality: str,
    to: str | None = None,
    *,
    clips: Sequence[int] | NDArray[np.int64],
    label: str = "stage",
    k: int = 10,
    where: str | None = None,
    exclude: str = "subject",
) -> Result:
    """Find the nearest neighbours of given clips, as a table.

    Parameters
    ----------
    store, modality, to
        As in :func:`sleepfm_index.evaluation.models.knn.knn`.
    clips : sequence of int
        Ids of the query clips.
    label : str
        Column of ``clips`` to show for each neighbour.
    k : int
        Number of clips to find per query.
    where : str, optional
        SQL condition for the neighbours.
    exclude : {"subject", "recording", "none"}
        Whose clips are excluded: those of the query's subject, or of its recording; ``none``
        excludes nothing, so that each query finds itself.

    Returns
    -------
    Result
        Columns query, rank, neighbour (clip ids), score, label, subject_id, recording_id, start_s,
        clock.

    Raises
    ------
    QueryError
        If a clip is unknown or lacks the modality, or the arguments do not match the store.
    """
    Vote(k=k, exclude=exclude)
    target = search_target(store, modality, to)
    ids = np.asarray(clips, np.int64)
    queries, present = store.vectors.of(ids, modality)
    if not present.all():
        raise QueryError(f"clip {ids[~present][0]} has no {modality} signal to search with")
    hits: list[tuple[int, NDArray[np.int64], NDArray[np.float64]]] = []
    column = f"{exclude}_id"
    owners = [None] * len(ids)
    if exclude != "none":
        owners = clip_columns(store, ids, [column])[column].to_pylist()
    for name in sorted(set(owners), key=str):
        # one search per subject or recording, because each excludes its own clips
        queries_of_owner = np.array([i for i, owner in enumerate(owners) if owner == name])
        others = None if name is None else f"{column} <> {quote_text(name)}"
        allowed = store.metadata.clip_ids(where, others) if where or others else None
        pairs = store.search(target, queries[queries_of_owner], k, allowed, exact=True)
        hits += [(int(i), *pair) for i, pair in zip(queries_of_owner, pairs, strict=True)]
    hits.sort(key=lambda hit: hit[0])
    counts = [len(clip_ids) for _, clip_ids, _ in hits]
    table = pa.table(
        {
            "query": np.repeat(ids, counts),
            "rank": np.concatenate([np.arange(1, n + 1) for n in counts]).astype(np.int64),
            "neighbour": np.concatenate([clip_ids for _, clip_ids, _ in hits]),
            "score": np.concatenate([scores for _, _, scores in hits]),
        }
    )
    names = [label, "subject_id", "recording_id", "start_s", "clock"]
    facts = clip_columns(store, table["neighbour"].to_numpy(), names)
    for name in names:
        table = table.append_column("label" if name == label else name, facts[name])
    return Result(table, f"{k} nearest by {modality} -> {to or modality}, own {exclude} left out")
