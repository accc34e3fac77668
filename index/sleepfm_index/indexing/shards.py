"""Encoding an index in shards, possibly on several machines, and merging them.

The index is trained once. A shard is a run of adjacent segments; encoding it gives a separate index
with the same training. Shards are merged in order, so the file does not depend on where and when
each of them was encoded.
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
"""Function that encodes shards, given the store's folder, the trained index and the segments of
each shard; it returns the entries of the shards in order."""


def divided(manifest: Manifest, count: int) -> list[tuple[str, ...]]:
    """Divide the segments into runs with about the same number of rows each.

    Parameters
    ----------
    manifest : Manifest
        The snapshot of the store.
    count : int
        Maximum number of runs.
    """
    ends = np.cumsum([segment.rows for segment in manifest.segments])
    shard = (ends - 1) * count // max(1, int(ends[-1]))
    names = np.array([segment.id for segment in manifest.segments])
    return [tuple(names[shard == number].tolist()) for number in np.unique(shard)]


def code_shard(store: str, trained: IndexEntry, names: tuple[str, ...]) -> IndexEntry:
    """Encode the rows of one shard into a separate file.

    Parameters
    ----------
    store : str
        Path of the store's folder on the machine that runs the task.
    trained : IndexEntry
        Entry of the trained index without rows.
    names : tuple of str
        Names of the segments of the shard, in order.
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
    """Encode the shards, merge them, and remove their files.

    Parameters
    ----------
    store : Path
        The store's folder.
    target : str
        Search target: a modality, or ``others_of_<modality>``.
    kind : Mergeable
        Kind of the index.
    trained
        Result of ``kind.train``.
    shards : list of tuple of str
        Names of the segments of each shard.
    code : callable
        Function that encodes the shards: :func:`here`, or the workers of a cluster.
    """
    shard_kind, training = kind.shard_training(trained)
    empty = shard_kind.write(store, target, (), training, ())
    coded = code(str(store.absolute()), empty, shards)
    merged = kind.merge(store, coded)
    for entry in (empty, *coded):
        remove(store / paths.INDEXES / entry.file)
    return merged


def here(store: str, trained: IndexEntry, shards: list[tuple[str, ...]]) -> list[IndexEntry]:
    """Encode one shard after another in this process.

    Parameters
    ----------
    store : str
        The store's folder.
    trained : IndexEntry
        Entry of the trained index without rows.
    shards : list of tuple of str
        Names of the segments of each shard.
    """
    return [code_shard(store, trained, names) for names in shards]
