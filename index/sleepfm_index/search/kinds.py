"""Registry of the kinds of index. A new kind is one module and one line here."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.search.flat import Flat
from sleepfm_index.search.hnsw import HNSW
from sleepfm_index.search.ivf_kind import InvertedFileKind
from sleepfm_index.search.protocol import IndexKind, VectorIndex
from sleepfm_index.storage.manifest import IndexEntry
from sleepfm_index.storage.vectors import Vectors

KINDS: Final[tuple[type[IndexKind], ...]] = (Flat, InvertedFileKind, HNSW)
EXACT: Final = "exact"
"""Name for exact search without an index."""


def parse(name: str, *, shards: bool = False) -> IndexKind:
    """Parse the name of a kind, such as ``IVF4096,TC96x4fs`` or ``HNSW32``.

    Parameters
    ----------
    name : str
        Name of the kind of index.
    shards : bool
        Whether to accept the kinds of shards as well, which are merged and not searched.

    Raises
    ------
    QueryError
        If the kind is unknown.
    """
    for kind in KINDS:
        parsed = kind.parse(name)
        if parsed is not None and (parsed.searchable or shards):
            return parsed
    names = ", ".join((EXACT, *(form for kind in KINDS for form in kind.names)))
    raise QueryError(f"no index {name!r}; choose from {names}")


def find(name: str) -> IndexKind | None:
    """Return the kind of index with a name; None if it is unknown.

    Parameters
    ----------
    name : str
        Name of the kind of index.
    """
    try:
        return parse(name)
    except QueryError:
        return None


def is_exact(name: str) -> bool:
    """Whether a kind of index is exhaustive; False if it is unknown.

    Parameters
    ----------
    name : str
        Name of the kind of index.
    """
    kind = find(name)
    return kind is not None and kind.exact


def open_index(store: Path, entry: IndexEntry, vectors: Vectors | None = None) -> VectorIndex:
    """Open the index of an entry.

    Parameters
    ----------
    store : Path
        The store's folder.
    entry : IndexEntry
        Entry of the index in the manifest.
    vectors : Vectors, optional
        The vectors of the store.

    Raises
    ------
    FormatError
        If its kind is unknown, or the file does not match the manifest.
    """
    kind = find(entry.kind)
    if kind is None:
        raise FormatError(
            f"the index of {entry.target} has the unknown kind {entry.kind}; "
            "run `sleepfm-index reindex`, or search exactly"
        )
    return kind.open(store, entry, vectors)
