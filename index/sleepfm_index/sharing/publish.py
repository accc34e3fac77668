"""Publishing a store into a vector database, and opening a published store."""

from __future__ import annotations

from pathlib import Path

from sleepfm.progress import Progress
from sleepfm_index.errors import QueryError
from sleepfm_index.reader import Reader
from sleepfm_index.schema import check_target
from sleepfm_index.sharing.engine import Published, PublishedStore
from sleepfm_index.sharing.engine import engine as find_engine

DEFAULT_COLLECTION = "sleepfm_clips"


def publish(
    store: str | Path,
    uri: str,
    *,
    to: str = "milvus",
    collection: str = DEFAULT_COLLECTION,
    targets: tuple[str, ...] | None = None,
    index: str = "FLAT",
    progress: Progress | None = None,
) -> Published:
    """Synchronise a collection in a vector database with a store, and verify the result.

    Clip ids are never reused, so a clip with the right id is the right clip. Missing clips are
    sent, clips that the store deleted are deleted, and an interrupted publication resumes.

    Parameters
    ----------
    store : path
        The store's folder.
    uri : str
        For Milvus, the address of a server (``http://host:19530``), or a file ending in ``.db``
        for milvus-lite.
    to : str
        The engine, a key of :data:`~sleepfm_index.sharing.engine.ENGINES`.
    collection : str
        Name of the collection; it is created if it does not exist.
    targets : tuple of str, optional
        Vector fields of a new collection; by default all.
    index : str
        Type of index over the vectors, by the engine's name for it; ``FLAT`` is exact.
    progress : callable, optional
        Called after each batch with (clips sent, clips to send).

    Returns
    -------
    Published

    Raises
    ------
    QueryError
        If the engine or target is unknown.
    StoreError
        If the engine cannot be reached, rejects a request, holds another store under this name, or
        returns other answers than the store.
    """
    chosen = find_engine(to)
    if targets is not None and not targets:
        raise QueryError("no targets named; name at least one, or leave targets out for all")
    with Reader(store) as reader:
        targets = targets or reader.manifest.targets
        for target in targets:
            check_target(target, reader.manifest.modalities)
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
        Address that the store was published to, as in :func:`publish`.
    engine : str
        A key of :data:`~sleepfm_index.sharing.engine.ENGINES`.
    collection : str
        Name of the collection.
    store : path, optional
        The store that was published, for conditions that the engine cannot evaluate.

    Returns
    -------
    PublishedStore
        The published store, with ``answer(question)`` and for Milvus also ``query(...)``.

    Raises
    ------
    QueryError
        If the engine is unknown.
    StoreError
        If the engine cannot be reached, or has no such collection.
    """
    return find_engine(engine).connect(
        uri, collection=collection, store=None if store is None else Path(store)
    )
