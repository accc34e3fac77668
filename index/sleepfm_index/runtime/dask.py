"""Connecting to a Dask cluster: the site's own, or processes of this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sleepfm_index.errors import StoreError


@dataclass(frozen=True)
class Cluster:
    """Which cluster works, and where it leaves what it made.

    Parameters
    ----------
    scheduler : str, optional
        Address of the site's scheduler, e.g. ``tcp://host:8786``; without one, processes of this
        machine.
    staging : str
        Folder or URI that all workers reach by the same name.
    folder : str
        Folder in it, for one store alone.
    workers : int
        Processes, where they are of this machine.
    """

    scheduler: str | None
    staging: str = ""
    folder: str = ""
    workers: int = 1


class SchedulerLost(StoreError):
    """The scheduler is gone; retry when there is another one."""


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine that ends with the block.

    Raises
    ------
    StoreError
        If Dask is not installed, or no scheduler answers.
    """
    try:
        import distributed
    except ImportError as error:
        raise StoreError("Dask is not installed: pip install 'sleepfm-index[dask]'") from error
    # What it would say of lost workers and connections is said in the report.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if cluster.scheduler is None:
        import dask

        with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
            try:
                local = distributed.LocalCluster(
                    n_workers=cluster.workers,
                    threads_per_worker=1,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            except RuntimeError as error:
                raise StoreError(f"no Dask cluster could be started here: {error}") from error
            with local, distributed.Client(local) as client:
                yield client
        return
    try:
        client = distributed.Client(cluster.scheduler)
    except (OSError, ValueError) as error:
        raise StoreError(f"no Dask scheduler answers at {cluster.scheduler}") from error
    with client:
        yield client
