"""Shards of an index as tasks of a Dask cluster."""

from __future__ import annotations

from sleepfm_index.errors import StoreError
from sleepfm_index.indexing.shards import code_shard
from sleepfm_index.runtime.dask import Cluster, connected
from sleepfm_index.storage.manifest import IndexEntry


class OnDask:
    """Encodes shards as tasks of a Dask cluster whose workers can access the store's folder.

    Parameters
    ----------
    cluster : Cluster
        The cluster to use.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __call__(
        self, store: str, trained: IndexEntry, shards: list[tuple[str, ...]]
    ) -> list[IndexEntry]:
        """Encode all shards and return their entries in order."""
        with connected(self._cluster) as client:
            futures = client.map(
                code_shard,
                [store] * len(shards),
                [trained] * len(shards),
                shards,
                key=[f"shard-{trained.file}-{number}" for number in range(len(shards))],
                pure=False,
            )
            try:
                coded: list[IndexEntry] = client.gather(futures)
            except Exception as error:
                raise StoreError(
                    f"the cluster did not code {trained.target}: {type(error).__name__}: "
                    f"{error}; run the same command to start again"
                ) from error
        return coded
