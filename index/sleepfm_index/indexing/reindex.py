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
        ``exact``, or a kind such as ``IVF4096,TC96x4fs`` or ``HNSW32``; by default what there
        is, or what :func:`sleepfm_index.indexing.planner.plan` chooses.
    recall : float, optional
        The recall@10 to reach; by default what was asked for before, or 0.99.
    rebuild : bool
        Make every index afresh.
    targets : tuple of str, optional
        Leave the indexes of all others as they are; by default every target.
    threads : int, optional
        Threads of this process; see :func:`sleepfm_index.set_threads`.
    engine : {"local", "dask"}
        What codes the vectors of an index that is made afresh; the workers of a Dask cluster must
        reach the store's folder under its name.
    scheduler : str, optional
        For Dask: the address of the site's scheduler; without one, processes of this machine.
    workers : int
        For Dask without a scheduler: how many processes.
    shards : int, optional
        In how many parts an index is coded; by default one, for Dask two per
        worker. A graph (HNSW) is always made in one part.
    notice : callable, optional
        Called with a line before each step.

    Returns
    -------
    Manifest
        What was published; the same as before if nothing was to be done.

    Raises
    ------
    QueryError
        If there is no such kind of index or target, or the recall is not one.
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
        Holds the store's lock.
    request : IndexRequest, optional
        Kinds, recall and targets; by default what the store has, or the plan's choice.
    """
    before = writer.manifest
    after = with_caches(writer.path, before, request or IndexRequest())
    if after == before:
        return
    writer.commit(after)
    # Readers of the snapshot before keep the indexes that it names.
    kept = before.names[1] | writer.manifest.names[1]
    for file in (writer.path / paths.INDEXES).iterdir():
        if file.name not in kept:
            remove(file)
