"""A store of SleepFM embeddings, with search across modalities and SQL over the metadata.

>>> import sleepfm_index
>>> report = sleepfm_index.build("sleepfm-store", ["nights/"])  # doctest: +SKIP
>>> with sleepfm_index.open("sleepfm-store") as store:  # doctest: +SKIP
...     store.query("ecg", to="bas", clip=17).to_pandas()
...     store.sql("SELECT stage, count(*) FROM clips GROUP BY stage").to_pandas()
...     store.evaluate().to_pandas()

Opening and searching a store does not import torch; building one does.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleepfm import __version__
from sleepfm_index.errors import (
    CommitConflict,
    FormatError,
    QueryError,
    StoreError,
    StoreLocked,
)
from sleepfm_index.results import Result
from sleepfm_index.store import Store

if TYPE_CHECKING:
    from sleepfm_index.ingest import BuildReport, build

__all__ = [
    "BuildReport",
    "CommitConflict",
    "FormatError",
    "QueryError",
    "Result",
    "Store",
    "StoreError",
    "StoreLocked",
    "__version__",
    "build",
    "open",
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


def __getattr__(name: str) -> Any:
    # Building needs torch and the readers, which take seconds to import; searching does not.
    if name in ("build", "BuildReport"):
        from sleepfm_index import ingest

        return getattr(ingest, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
