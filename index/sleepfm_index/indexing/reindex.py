"""Updating the indexes of a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sleepfm.progress import Notice
from sleepfm_index.choices import BuildEngine
from sleepfm_index.indexing.dask_shards import OnDask
from sleepfm_index.indexing.maintenance import IndexRequest, with_caches
from sleepfm_index.runtime.dask import Cluster
from sleepfm_index.runtime.threads import set_threads
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import remove
from sleepfm_index.storage.manifest import Manifest
from sleepfm_index.storage.writer import Writer


def reindex(
    store: str | Path,
    *,
    index: str | None = None,
    recall: float | None = None,
    rebuild: bool = False,
    targets: tuple[str, ...] | None = None,
    threads: int | None = None,
    engine: BuildEngine = "local",
    scheduler: str | None = None,
    workers: int = 2,
    shards: int | None = None,
    notice: Notice | None = None,
) -> Manifest:
    """Update the index of every target.

    Parameters
    ----------
    store : path
        The store's folder.
    index : str, optional
        ``exact``, or a kind such as ``IVF4096,TC96x4fs`` or ``HNSW32``; by default the present
        kind, or the choice of :func:`sleepfm_index.indexing.planner.plan`.
    recall : float, optional
        The recall@10 to reach, 0 to 1; by default the previous goal, or 0.99.
    rebuild : bool
        Whether to rebuild every index.
    targets : tuple of str, optional
        Targets whose indexes are updated; by default all.
    threads : int, optional
        Threads of this process; see :func:`sleepfm_index.set_threads`.
    engine : {"local", "dask"}
        Encode the vectors of a new index in this process, or on a Dask cluster, whose workers must
        be able to access the store's folder by the same path.
    scheduler : str, optional
        With Dask: address of the scheduler; by default processes are started on this machine.
    workers : int
        With Dask on this machine: number of processes.
    shards : int, optional
        Number of parts in which an index is encoded; by default one, with Dask two per worker. A
        graph (HNSW) is always built in one part.
    notice : callable, optional
        Called with a line of text before each step.

    Returns
    -------
    Manifest
        The published manifest, or the present one if there was nothing to do.

    Raises
    ------
    QueryError
        If the kind of index or the target is unknown, or the recall is out of range.
    StoreLocked
        If another process is writing.
    """
    if threads is not None:
        set_threads(threads)
    request = IndexRequest(
        index, recall, rebuild, targets=targets, notice=notice, shards=shards or 1
    )
    if engine == "dask":
        code = OnDask(Cluster(scheduler, workers=workers))
        request = replace(request, shards=shards or 2 * workers, code=code)
    with Writer(Path(store)) as writer:
        update_indexes(writer, request)
        return writer.manifest


def update_indexes(writer: Writer, request: IndexRequest | None = None) -> None:
    """Update the indexes, commit, and remove the replaced ones.

    Parameters
    ----------
    writer : Writer
        Writer with the store's lock.
    request : IndexRequest, optional
        Kinds, recall and targets; by default the present ones, or the planned ones.
    """
    before = writer.manifest
    after = with_caches(writer.path, before, request or IndexRequest())
    if after == before:
        return
    writer.commit(after)
    # Keep the indexes of the previous snapshot for its readers.
    kept = before.names[1] | writer.manifest.names[1]
    for file in (writer.path / paths.INDEXES).iterdir():
        if file.name not in kept:
            remove(file)
