"""A store is published: Milvus ends with exactly its clips, whatever it held before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import StoreError
from sleepfm_index.indexing.calibration import draw_queries
from sleepfm_index.reader import Reader
from sleepfm_index.sharing.clip_batches import clip_blocks, clips_schema
from sleepfm_index.sharing.engine import Progress, Published
from sleepfm_index.sharing.milvus.collection import MOST, About, Collection, told
from sleepfm_index.sharing.milvus.entities import KEY, columns_of, entities, presence

BATCH: Final = 1000
"""Clips of one upsert: 12 MB with six vectors each; Milvus takes 64 MB."""
SAMPLES: Final = 50
"""Queries per target by which a publication is checked: clips in other modalities, where there are
any, since a target's own vectors are found too easily."""
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
    """Make a Milvus collection hold the clips of a store, and check that it does.

    Parameters
    ----------
    reader : Reader
    uri, collection, targets, index, progress
        As in :func:`sleepfm_index.sharing.publish.publish`.

    Raises
    ------
    StoreError
        If Milvus cannot be reached, rejects the request, holds another store under this name, or
        does not answer as the store does.
    """
    with Collection(uri, collection) as served:
        about = _prepared(reader, served, targets)
        served.index(about.targets, index)
        served.load()
        live = reader.metadata.clip_ids(None)
        missing, extra = _difference(served, live, reader.manifest.next_clip_id)
        for at in range(0, len(extra), MOST):
            with told():
                served.client.delete(collection, ids=extra[at : at + MOST].tolist())
        _send(reader, served, about, missing, progress)
        with told():
            served.client.flush(collection)
        recall = _checked(reader, served, about, live)
    return Published(collection, len(live), len(missing), len(extra), recall)


def _prepared(store: Reader, served: Collection, targets: tuple[str, ...]) -> About:
    wanted = About.of(store.manifest, columns_of(clips_schema(store)), targets)
    there = served.about()
    if there is None:
        if not len(store):
            raise StoreError("the store is empty; there is nothing to publish")
        served.make(wanted)
        return wanted
    if there.store != wanted.store:
        raise StoreError(
            f"the collection {served.name} holds another store ({there.store[:8]}); "
            "name another by --collection"
        )
    if set(wanted.columns) - set(there.columns):
        names = ", ".join(sorted(c.name for c in set(wanted.columns) - set(there.columns)))
        raise StoreError(
            f"the collection {served.name} was made before the store had the columns {names}; "
            "name another by --collection"
        )
    return there


def _difference(
    served: Collection, live: NDArray[np.int64], following: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Clip ids that Milvus lacks, and those that it has and the store has not."""
    there = np.concatenate([*_ids(served, following), np.empty(0, np.int64)])
    return np.setdiff1d(live, there), np.setdiff1d(there, live)


def _ids(served: Collection, following: int) -> Iterator[NDArray[np.int64]]:
    if not served.count():
        return
    for first in range(0, following, MOST):
        last = min(first + MOST, following) - 1
        with told():
            found = served.client.query(
                served.name,
                filter=f"{KEY} >= {first} and {KEY} <= {last}",
                output_fields=[KEY],
                limit=MOST,
            )
        yield np.fromiter((entity[KEY] for entity in found), np.int64, len(found))


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
    known = columns_of(clips_schema(store))
    columns = tuple(c for c in about.columns if c in known)
    for block in clip_blocks(store, clip_ids=missing):
        for at in range(0, len(block.clips), BATCH):
            clips = block.clips.slice(at, BATCH)
            ids = clips[KEY].to_numpy()
            vectors = {t: store.vectors.of(ids, t)[0] for t in about.targets}
            with told():
                served.client.upsert(served.name, entities(clips, vectors, columns))
            sent += len(clips)
            if progress is not None:
                progress(sent, len(missing))


def _checked(
    store: Reader, served: Collection, about: About, live: NDArray[np.int64]
) -> dict[str, float]:
    """Count, and ask a few clips of every target; give the recall of the true nearest ten."""
    if served.count() != len(live):
        raise StoreError(
            f"the collection {served.name} holds {served.count():,} clips, the store "
            f"{len(live):,}; publish again"
        )
    recall = {}
    for target in about.targets:
        found = _recall(store, served, target)
        if found is None:
            continue
        if found < 1.0 and served.index_kind(target) in _EXACT:
            raise StoreError(
                f"Milvus does not find the nearest clips in {target} although its index is exact; "
                f"drop the collection {served.name} and publish again"
            )
        recall[target] = found
    return recall


def _recall(store: Reader, served: Collection, target: str) -> float | None:
    queries = draw_queries(store.vectors, store.manifest, target, SAMPLES, _SEED).vectors
    if not len(queries):
        _, queries = store.vectors.draw(target, SAMPLES, _SEED)
    truths = store.find(target, queries, _K, exact=True).hits
    if not sum(len(ids) for ids, _ in truths):
        return None
    with told():
        answers = served.client.search(
            served.name,
            data=list(queries),
            anns_field=target,
            filter=presence(target),
            limit=_K,
            search_params={"metric_type": "IP"},
        )
    hits = truth = 0
    for query, answer, (ids, scores) in zip(queries, answers, truths, strict=True):
        # Whoever scores as high as the tenth is as good an answer as the tenth.
        found = np.array([hit[KEY] for hit in answer], np.int64)
        score = store.vectors.of(found, target)[0].astype(np.float64) @ query.astype(np.float64)
        hits += int((score >= scores[-1] - 1e-6).sum())
        truth += len(ids)
    return hits / truth
