"""Publication to Milvus: the collection ends up with exactly the clips of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.progress import Progress
from sleepfm_index.errors import StoreError
from sleepfm_index.indexing.calibration import draw_queries
from sleepfm_index.reader import Reader
from sleepfm_index.sharing.clip_batches import clip_blocks, clips_schema
from sleepfm_index.sharing.engine import Published
from sleepfm_index.sharing.milvus.collection import MAX_RESULTS, About, Collection, milvus_errors
from sleepfm_index.sharing.milvus.entities import KEY, columns_of, entities, presence

BATCH: Final = 1000
"""Clips per upsert: 12 MB with six vectors each; the limit of Milvus is 64 MB."""
SAMPLES: Final = 50
"""Queries per target that verify a publication: vectors of other modalities if available, because
vectors of the target itself are too easy queries."""
_K: Final = 10
_SEED: Final = 0
_EXACT: Final = ("FLAT", "BRUTE_FORCE")


def publish(
    reader: Reader,
    uri: str,
    collection: str,
    targets: tuple[str, ...],
    index: str,
    progress: Progress | None,
) -> Published:
    """Synchronise a Milvus collection with a store, and verify the result.

    Parameters
    ----------
    reader : Reader
        The store.
    uri, collection, targets, index, progress
        As in :func:`sleepfm_index.sharing.publish.publish`.

    Returns
    -------
    Published

    Raises
    ------
    StoreError
        If Milvus cannot be reached, rejects a request, holds another store under this name, or
        returns other answers than the store.
    """
    with Collection(uri, collection) as served:
        about = _prepare(reader, served, targets)
        served.create_indexes(about.targets, index)
        served.load()
        live = reader.metadata.clip_ids(None)
        missing, extra = _difference(served, live, reader.manifest.next_clip_id)
        for start in range(0, len(extra), MAX_RESULTS):
            with milvus_errors():
                served.client.delete(collection, ids=extra[start : start + MAX_RESULTS].tolist())
        _send(reader, served, about, missing, progress)
        with milvus_errors():
            served.client.flush(collection)
        recall = _verify(reader, served, about, live)
    return Published(collection, len(live), len(missing), len(extra), recall)


def _prepare(store: Reader, served: Collection, targets: tuple[str, ...]) -> About:
    description = About.of(
        store.manifest, columns_of(clips_schema(store), store.manifest.targets), targets
    )
    existing = served.about()
    if existing is None:
        if not len(store):
            raise StoreError("the store is empty; there is nothing to publish")
        served.create(description)
        return description
    if existing.store != description.store:
        raise StoreError(
            f"the collection {served.name} holds another store ({existing.store[:8]}); "
            "choose another name with --collection"
        )
    if set(description.columns) - set(existing.columns):
        names = ", ".join(sorted(c.name for c in set(description.columns) - set(existing.columns)))
        raise StoreError(
            f"the collection {served.name} was created before the store had the columns {names}; "
            "choose another name with --collection"
        )
    return existing


def _difference(
    served: Collection, live: NDArray[np.int64], following: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the clip ids that only the store has, and those that only Milvus has."""
    published = np.concatenate([*_ids(served, following), np.empty(0, np.int64)])
    return np.setdiff1d(live, published), np.setdiff1d(published, live)


def _ids(served: Collection, following: int) -> Iterator[NDArray[np.int64]]:
    if not served.count():
        return
    for first in range(0, following, MAX_RESULTS):
        last = min(first + MAX_RESULTS, following) - 1
        with milvus_errors():
            rows = served.client.query(
                served.name,
                filter=f"{KEY} >= {first} and {KEY} <= {last}",
                output_fields=[KEY],
                limit=MAX_RESULTS,
            )
        yield np.fromiter((row[KEY] for row in rows), np.int64, len(rows))


def _send(
    store: Reader,
    served: Collection,
    about: About,
    missing: NDArray[np.int64],
    progress: Progress | None,
) -> None:
    sent = 0
    if not len(missing):
        return
    known = columns_of(clips_schema(store), store.manifest.targets)
    columns = tuple(c for c in about.columns if c in known)
    for block in clip_blocks(store, clip_ids=missing):
        for start in range(0, len(block.clips), BATCH):
            clips = block.clips.slice(start, BATCH)
            ids = clips[KEY].to_numpy()
            vectors = {t: store.vectors.of(ids, t)[0] for t in about.targets}
            with milvus_errors():
                served.client.upsert(served.name, entities(clips, vectors, columns))
            sent += len(clips)
            if progress is not None:
                progress(sent, len(missing))


def _verify(
    store: Reader, served: Collection, about: About, live: NDArray[np.int64]
) -> dict[str, float]:
    """Compare the number of clips with that of the store, and measure recall@10 per target."""
    if served.count() != len(live):
        raise StoreError(
            f"the collection {served.name} holds {served.count():,} clips, the store "
            f"{len(live):,}; publish again"
        )
    recall = {}
    for target in about.targets:
        measured = _recall(store, served, target)
        if measured is None:
            continue
        if measured < 1.0 and served.index_type(target) in _EXACT:
            raise StoreError(
                f"Milvus does not find the nearest clips in {target}, although its index is exact; "
                f"drop the collection {served.name} and publish again"
            )
        recall[target] = measured
    return recall


def _recall(store: Reader, served: Collection, target: str) -> float | None:
    queries = draw_queries(store.vectors, store.manifest, target, SAMPLES, _SEED).vectors
    if not len(queries):
        _, queries = store.vectors.draw(target, SAMPLES, _SEED)
    truths = store.find(target, queries, _K, exact=True).hits
    if not sum(len(ids) for ids, _ in truths):
        return None
    with milvus_errors():
        answers = served.client.search(
            served.name,
            data=list(queries),
            anns_field=target,
            filter=presence(target, store.manifest.modalities),
            limit=_K,
            search_params={"metric_type": "IP"},
        )
    hits = truth = 0
    for query, answer, (ids, scores) in zip(queries, answers, truths, strict=True):
        # A clip with the same score as the tenth is as good a hit.
        ids_found = np.array([hit[KEY] for hit in answer], np.int64)
        score = store.vectors.of(ids_found, target)[0].astype(np.float64) @ query.astype(np.float64)
        hits += int((score >= scores[-1] - 1e-6).sum())
        truth += len(ids)
    return hits / truth
