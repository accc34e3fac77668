"""Publishing a store into a vector database, and opening what was published."""

from __future__ import annotations

from pathlib import Path

from sleepfm_index.errors import QueryError
from sleepfm_index.reader import Reader
from sleepfm_index.schema import TARGETS
from sleepfm_index.sharing.engine import Progress, Published, PublishedStore
from sleepfm_index.sharing.engine import engine as find_engine

DEFAULT_COLLECTION = "sleepfm_clips"


def publish(
    store: str | Path,
    uri: str,
    *,
    to: str = "milvus",
    collection: str = DEFAULT_COLLECTION,
    targets: tuple[str, ...] = TARGETS,
    index: str = "FLAT",
    progress: Progress | None = None,
) -> Published:
    """Make a collection hold the clips of a store, and check that it does.

    Clip ids are never reused, so a clip that is there is the right one: what is missing is sent,
    what the store has deleted is deleted, and a publication that was killed goes on.

    Parameters
    ----------
    store : path
        The store's folder.
    uri : str
        For Milvus ``http://host:19530`` of a server, or a file ending in ``.db`` for milvus-lite.
    to : str
        A key of :data:`~sleepfm_index.sharing.engine.ENGINES`.
    collection : str
        Its name; made if there is none.
    targets : tuple of str
        Which vector fields it gets, when it is made; by default all.
    index : str
        Kind of index over the vectors, in the engine's words; ``FLAT`` is exact.
    progress : callable, optional
        Called after each batch with (clips sent, clips to send).

    Raises
    ------
    QueryError
        If there is no such engine or target.
    StoreError
        If the engine cannot be reached, refuses, holds another store under this name, or does not
        answer as the store does.
    """
    chosen = find_engine(to)
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown or not targets:
        raise QueryError(f"no target {unknown or targets}; choose from {', '.join(TARGETS)}")
    with Reader(store) as reader:
        return chosen.publish(
            reader, uri, collection=collection, targets=targets, index=index, progress=progress
        )


def connect(
    uri: str,
    *,
    engine: str = "milvus",
    collection: str = DEFAULT_COLLECTION,
    store: str | Path | None = None,
) -> PublishedStore:
    """Open a published store; use it in a ``with`` statement.

    Parameters
    ----------
    uri : str
        Where it was published to.
    engine : str
        A key of :data:`~sleepfm_index.sharing.engine.ENGINES`.
    collection : str
        Its name.
    store : path, optional
        The store it was published from, for conditions that the engine cannot be asked.

    Raises
    ------
    StoreError
        If the engine cannot be reached, or has no such collection.
    """
    return find_engine(engine).connect(
        uri, collection=collection, store=None if store is None else Path(store)
    )
