"""A store is published: Milvus ends with exactly its clips, whatever it held before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.indexing.calibration import draw_queries
from sleepfm_index.schema import TARGETS
from sleepfm_index.sharing.clip_batches import clip_blocks, clips_schema
from sleepfm_index.sharing.milvus.collection import DEFAULT, MOST, About, Collection, told
from sleepfm_index.sharing.milvus.entities import KEY, columns_of, entities, presence
from sleepfm_index.store import Store

BATCH: Final = 1000
"""Clips of one upsert: 12 MB with six vectors each; Milvus takes 64 MB."""
SAMPLES: Final = 50
"""Queries per target by which a publication is checked: clips in other modalities, where there are
any, since a target's own vectors are found too easily."""
_K: Final = 10
_SEED: Final = 0
_EXACT: Final = ("FLAT", "BRUTE_FORCE")


@dataclass(frozen=True)
class Published:
    """What a publication did.

    Parameters
    ----------
    collection : str
    clips : int
        Clips in the collection, as many as in the store.
    added, removed : int
        Clips sent, and clips deleted because the store does not have them any more.
    recall : dict of str to float
        By target: the share that Milvus finds of the true nearest ten of sampled clips, as they
        are in other modalities.
    """

    collection: str
    clips: int
    added: int
    removed: int
    recall: dict[str, float]


def publish(
    store: str | Path,
    uri: str,
    *,
    collection: str = DEFAULT,
    targets: tuple[str, ...] = TARGETS,
    index: str = "FLAT",
    watch: Callable[[int, int], None] | None = None,
) -> Published:
    """Make a Milvus collection hold the clips of a store, and check that it does.

    Clip ids are never reused, so a clip that is there is the right one: what is missing is
    sent, what the store has deleted is deleted, and a publication that was killed goes on.

    Parameters
    ----------
    store : path
        The store's folder.
    uri : str
        ``http://host:19530`` of a server, or a file ending in ``.db`` for milvus-lite.
    collection : str
        Its name; made if there is none.
    targets : tuple of str
        Which vector fields it gets, when it is made; by default all six.
    index : str
        Kind of index over the vectors, in Milvus's words; ``FLAT`` is exact.
    watch : callable, optional
        Called after each batch with (clips sent, clips to send).

    Raises
    ------
    StoreError
        If Milvus cannot be reached, refuses, holds another store under this name, or does not
        answer as the store does.
    """
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown or not targets:
        raise QueryError(f"no target {unknown or targets}; choose from {', '.join(TARGETS)}")
    with Store(store) as opened, Collection(uri, collection) as served:
        about = _prepared(opened, served, targets)
        served.index(about.targets, index)
        served.load()
        live = opened.metadata.clip_ids(None)
        missing, extra = _difference(served, live, opened.manifest.next_clip_id)
        for at in range(0, len(extra), MOST):
            with told():
                served.client.delete(collection, ids=extra[at : at + MOST].tolist())
        _send(opened, served, about, missing, watch)
        with told():
            served.client.flush(collection)
        recall = _checked(opened, served, about, live)
    return Published(collection, len(live), len(missing), len(extra), recall)


def _prepared(store: Store, served: Collection, targets: tuple[str, ...]) -> About:
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
    store: Store,
    served: Collection,
    about: About,
    missing: NDArray[np.int64],
    watch: Callable[[int, int], None] | None,
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
            if watch is not None:
                watch(sent, len(missing))


def _checked(
    store: Store, served: Collection, about: About, live: NDArray[np.int64]
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


def _recall(store: Store, served: Collection, target: str) -> float | None:
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
