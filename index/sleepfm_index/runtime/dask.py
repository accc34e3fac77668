"""Connection to a Dask cluster: that of the site, or processes on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sleepfm_index.errors import StoreError


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster and the storage it shares with the client.

    Parameters
    ----------
    scheduler : str or None
        Address of the site's scheduler, e.g. ``tcp://host:8786``; None to start processes on this
        machine.
    staging : str
        Folder or URI that all workers access by the same name.
    folder : str
        Folder below the staging folder for one store.
    workers : int
        Number of processes, if they run on this machine.
    """

    scheduler: str | None
    staging: str = ""
    folder: str = ""
    workers: int = 1


class SchedulerLost(StoreError):
    """The connection to the scheduler was lost; retry when a scheduler is running."""


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine, for a ``with`` block.

    Parameters
    ----------
    cluster : Cluster
        Cluster to use.

    Yields
    ------
    distributed.Client

    Raises
    ------
    StoreError
        If Dask is not installed, the scheduler cannot be reached, or no cluster can be started.
    """
    try:
        import distributed
    except ImportError as error:
        raise StoreError("Dask is not installed: pip install 'sleepfm-index[dask]'") from error
    # Lost workers and connections are reported by the build.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if cluster.scheduler is None:
        import dask

        with _safe_path(), dask.config.set({"distributed.scheduler.allowed-failures": 1}):
            try:
                local = distributed.LocalCluster(
                    # With temporary certificates, so that no other user of this machine has access.
                    security=True,
                    n_workers=cluster.workers,
                    threads_per_worker=1,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            except ImportError as error:
                raise StoreError(
                    "a Dask cluster on this machine needs the package cryptography: pip install "
                    "'sleepfm-index[dask]'"
                ) from error
            except RuntimeError as error:
                raise StoreError(f"cannot start a Dask cluster on this machine: {error}") from error
            with local, distributed.Client(local) as client:
                yield client
        return
    try:
        client = distributed.Client(cluster.scheduler)
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot connect to a Dask scheduler at {cluster.scheduler}") from error
    with client:
        yield client


@contextmanager
def _safe_path() -> Iterator[None]:
    """Prevent Python processes started in the block from importing from the current folder."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
