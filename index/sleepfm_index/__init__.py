"""A store of SleepFM embeddings, with search across modalities and SQL over the metadata.

>>> import sleepfm_index
>>> report = sleepfm_index.build("sleepfm-store", ["nights/"])  # doctest: +SKIP
>>> with sleepfm_index.open("sleepfm-store") as store:  # doctest: +SKIP
...     store.query("ecg", to="bas", clip=17).to_pandas()
...     store.sql("SELECT stage, count(*) FROM clips GROUP BY stage").to_pandas()
...     store.evaluate().to_pandas()

Opening and searching a store does not import torch, nor does building one by OpenVINO, but for the
first build with a set of weights.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleepfm import __version__
from sleepfm_index.errors import (
    CommitConflict,
    FormatError,
    QueryError,
    SnapshotGone,
    StoreError,
    StoreLocked,
)
from sleepfm_index.results import Result
from sleepfm_index.storage.snapshots import Snapshot
from sleepfm_index.storage.snapshots import list_snapshots as snapshots
from sleepfm_index.store import Store

if TYPE_CHECKING:
    from sleepfm_index.building.pipeline import BuildReport, build
    from sleepfm_index.indexing.planner import Plan, plan
    from sleepfm_index.lifecycle.compact import Compaction, compact
    from sleepfm_index.lifecycle.delete import Deletion, delete
    from sleepfm_index.lifecycle.restore import restore
    from sleepfm_index.lifecycle.verify import Verification, verify
    from sleepfm_index.sharing.export import Exported, export
    from sleepfm_index.sharing.milvus.client import Served
    from sleepfm_index.sharing.milvus.publish import Published, publish
    from sleepfm_index.storage.writer import reindex

__all__ = [
    "BuildReport",
    "CommitConflict",
    "Compaction",
    "Deletion",
    "Exported",
    "FormatError",
    "Plan",
    "Published",
    "QueryError",
    "Result",
    "Served",
    "Snapshot",
    "SnapshotGone",
    "Store",
    "StoreError",
    "StoreLocked",
    "Verification",
    "__version__",
    "build",
    "compact",
    "delete",
    "export",
    "open",
    "plan",
    "publish",
    "reindex",
    "restore",
    "snapshots",
    "verify",
]


def open(path: str | Path, *, threads: int | None = None) -> Store:  # noqa: A001
    """Open a store at its latest snapshot.

    Parameters
    ----------
    path : path
        The store's folder.
    threads : int, optional
        Threads that searching may use; by default all cores.

    Raises
    ------
    FormatError
        If there is no store there, or not one that this version can read.
    """
    return Store(path, threads=threads)


# Building needs torch and the readers, which take seconds to import; searching does not. What
# changes a store is imported when it is used, too.
_LATER = {
    "BuildReport": "building.pipeline",
    "build": "building.pipeline",
    "Compaction": "lifecycle.compact",
    "compact": "lifecycle.compact",
    "Deletion": "lifecycle.delete",
    "delete": "lifecycle.delete",
    "Plan": "indexing.planner",
    "plan": "indexing.planner",
    "Exported": "sharing.export",
    "export": "sharing.export",
    "Published": "sharing.milvus.publish",
    "publish": "sharing.milvus.publish",
    "Served": "sharing.milvus.client",
    "reindex": "storage.writer",
    "restore": "lifecycle.restore",
    "Verification": "lifecycle.verify",
    "verify": "lifecycle.verify",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"sleepfm_index.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
