"""An inverted file coded in shards, by whoever there is, and merged by FAISS.

Centroids are found once. A shard is a run of neighbouring segments; coding it gives an inverted
file of its own over those centroids, with clip ids as they are. FAISS's merge puts the lists one
behind another in the order of the shards, so the file does not depend on who coded which, nor when.
"""

from __future__ import annotations

import ctypes
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from sleepfm_index.indexing import ivf_builder
from sleepfm_index.runtime.threads import faiss
from sleepfm_index.search.fastscan import read_list, write_list
from sleepfm_index.search.index_format import (
    CODES,
    Kind,
    Structure,
    read_arrays,
    write_arrays,
)
from sleepfm_index.search.ivf import InvertedFile
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import Sink, publish_file, remove
from sleepfm_index.storage.manifest import IndexEntry, Manifest, read_manifest
from sleepfm_index.storage.vectors import Vectors

Code = Callable[[str, IndexEntry, list[tuple[str, ...]]], list[IndexEntry]]
"""Codes shards of the store in a folder over trained centroids, and gives their files in order."""


def divided(manifest: Manifest, count: int) -> list[tuple[str, ...]]:
    """Give runs of neighbouring segments that hold about as many rows each."""
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
        A file without rows: the centroids.
    names : tuple of str
        The segments, in order.
    """
    path = Path(store)
    _, structure, _ = read_arrays(path, trained)
    vectors = Vectors(path, read_manifest(path))
    blocks = (block for name in names for block in vectors.blocks(name, trained.target))
    return ivf_builder.write(path, trained.target, names, structure, blocks)


def merge(store: Path, shards: list[IndexEntry], kind: Kind) -> IndexEntry:
    """Merge shards, in their order, into one file by FAISS's merge of lists on disk.

    Parameters
    ----------
    kind : Kind
        Of the file; the rows of the shards are those of its loose form.
    """
    opened = [InvertedFile.open(store, shard) for shard in shards]
    structure = replace(opened[0].structure, kind=kind)
    counts = np.sum([one.counts for one in opened], axis=0)
    pointers = faiss().InvertedListsPtrVector()
    for one in opened:
        pointers.push_back(one.index.invlists)
    target = shards[0].target
    aside = store / paths.INDEXES / f".{target}-merged.{uuid.uuid4().hex[:8]}.tmp"
    try:
        lists = faiss().OnDiskInvertedLists(kind.lists, CODES[kind.code], str(aside))
        with _quiet():
            rows = int(lists.merge_from_multiple(pointers.data(), pointers.size(), False))
        del lists  # lets go of the mapped file

        def content(sink: Sink) -> None:
            merged, end = np.memmap(aside, np.uint8, "r") if rows else np.empty(0, np.uint8), 0
            for count in counts.tolist():
                start, end = end, end + count * kind.row_bytes
                write_list(sink, kind, *read_list(kind.loose, merged[start:end], count))
            write_arrays(sink, structure, counts)

        file = f"{target}-{uuid.uuid4().hex[:16]}.ivf"
        entry = publish_file(store / paths.INDEXES / file, content)
    finally:
        remove(aside)
    names = tuple(name for shard in shards for name in shard.segments)
    return IndexEntry(target, file, str(kind), rows, names, entry)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what FAISS prints to stdout: the paths of its files."""
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    answers = os.dup(1)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(answers, 1)
        os.close(answers)
        os.close(nowhere)


def write(
    store: Path,
    target: str,
    structure: Structure,
    shards: list[tuple[str, ...]],
    code: Code,
) -> IndexEntry:
    """Have shards coded by ``code``, and merge them; their own files are removed."""
    trained = ivf_builder.write(store, target, (), structure.loose, ())
    coded = code(str(store.absolute()), trained, shards)
    merged = merge(store, coded, structure.kind)
    for entry in (trained, *coded):
        remove(store / paths.INDEXES / entry.file)
    return merged


def here(store: str, trained: IndexEntry, shards: list[tuple[str, ...]]) -> list[IndexEntry]:
    """Code one shard after another in this process."""
    return [code_shard(store, trained, names) for names in shards]
