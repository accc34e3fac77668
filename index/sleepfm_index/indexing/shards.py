"""An index coded in shards, by whoever there is, and merged.

It is trained once. A shard is a run of neighbouring segments; coding it gives an index of its own
of the same training, with clip ids as they are. Merging puts them one behind another in the order
of the shards, so the file does not depend on who coded which, nor when.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sleepfm_index.search import kinds
from sleepfm_index.search.protocol import Mergeable, Trained
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import remove
from sleepfm_index.storage.manifest import IndexEntry, Manifest, read_manifest
from sleepfm_index.storage.vectors import Vectors

Code = Callable[[str, IndexEntry, list[tuple[str, ...]]], list[IndexEntry]]
"""Codes shards of the store in a folder over one training, and gives their files in order."""


def divided(manifest: Manifest, count: int) -> list[tuple[str, ...]]:
    """Return runs of neighbouring segments that hold about as many rows each.

    Parameters
    ----------
    manifest : Manifest
        The snapshot of the store.
    count : int
        How many, at most.
    """
    ends = np.cumsum([segment.rows for segment in manifest.segments])
    shard = (ends - 1) * count // max(1, int(ends[-1]))
    names = np.array([segment.id for segment in manifest.segments])
    return [tuple(names[shard == at].tolist()) for at in np.unique(shard)]


def code_shard(store: str, trained: IndexEntry, names: tuple[str, ...]) -> IndexEntry:
    """Code the rows of some segments into a file of their own; a task of its own.

    Parameters
    ----------
    store : str
        The store's folder, which whoever calls this reaches by this name.
    trained : IndexEntry
        An index without rows, for its training.
    names : tuple of str
        The segments, in order.
    """
    path = Path(store)
    kind = kinds.parse(trained.kind, shards=True)
    training = kind.open(path, trained).trained
    vectors = Vectors(path, read_manifest(path))
    blocks = (block for name in names for block in vectors.blocks(name, trained.target))
    return kind.write(path, trained.target, names, training, blocks)


def write(
    store: Path,
    target: str,
    kind: Mergeable,
    trained: Trained,
    shards: list[tuple[str, ...]],
    code: Code,
) -> IndexEntry:
    """Have shards coded, and merge them; their own files are removed.

    Parameters
    ----------
    store : Path
        The store's folder.
    target : str
        What is searched: a modality, or ``others_of_<modality>``.
    kind : Mergeable
        Kind of the index.
    trained
        What ``kind.train`` gave.
    shards : list of tuple of str
        The segments of each.
    code : callable
        Codes them: :func:`here`, or the workers of a cluster.
    """
    of_shards, training = kind.shard_training(trained)
    empty = of_shards.write(store, target, (), training, ())
    coded = code(str(store.absolute()), empty, shards)
    merged = kind.merge(store, coded)
    for entry in (empty, *coded):
        remove(store / paths.INDEXES / entry.file)
    return merged


def here(store: str, trained: IndexEntry, shards: list[tuple[str, ...]]) -> list[IndexEntry]:
    """Code one shard after another in this process.

    Parameters
    ----------
    store : str
        The store's folder.
    trained : IndexEntry
        Entry of the trained index without rows.
    shards : list of tuple of str
        The segments of each shard.
    """
    return [code_shard(store, trained, names) for names in shards]
