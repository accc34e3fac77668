"""FAISS: the index of one target. A cache that can always be rebuilt from the vectors."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.disk import Sink, check_plain, fingerprint, publish_file
from sleepfm_index.errors import FormatError
from sleepfm_index.manifest import IndexEntry
from sleepfm_index.schema import target_parts

FOLDER: Final = "indexes"
EXACT_FLOAT16: Final = "exact, float16"
EXACT_FLOAT32: Final = "exact, float32"

_READING: Final = threading.Lock()

# Below this many queries FAISS >= 1.14.2 scans without BLAS, up to 20x slower at 512 dimensions.
faiss.cvar.distance_compute_blas_threshold = 1


# A child of fork() has none of its parent's OpenMP threads and would wait for them for ever.
_forked = False


def _keep_to_one_thread() -> None:
    global _forked
    _forked = True
    faiss.omp_set_num_threads(1)


os.register_at_fork(after_in_child=_keep_to_one_thread)


def use_threads(threads: int) -> None:
    """Set how many threads FAISS may use, in this process; a forked child keeps to one."""
    faiss.omp_set_num_threads(1 if _forked else threads)


def exact_kind(target: str) -> str:
    """Kind of the exact index of a target.

    Stored unit vectors are float16, so a float16 index loses nothing; a mean of two is not.
    """
    return EXACT_FLOAT16 if len(target_parts(target)) == 1 else EXACT_FLOAT32


def write_exact(
    store: Path,
    target: str,
    segments: tuple[str, ...],
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
) -> IndexEntry:
    """Build and publish the exact inner-product index of a target.

    Parameters
    ----------
    blocks : iterable of (clip_ids, vectors)
        int64 [m] and float32 [m, 512], one pair per segment; FAISS's ids are the clip ids.
    """
    kind = exact_kind(target)
    if kind == EXACT_FLOAT16:
        flat = faiss.IndexScalarQuantizer(
            EMBEDDING_DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
    else:
        flat = faiss.IndexFlatIP(EMBEDDING_DIM)
    index = faiss.IndexIDMap(flat)
    for clip_ids, vectors in blocks:
        if len(clip_ids):
            index.add_with_ids(vectors, clip_ids)
    # A name is never used twice: an earlier snapshot may still name the file it knows.
    file = f"{target}-{uuid.uuid4().hex[:16]}.faiss"

    def write(sink: Sink) -> None:
        faiss.write_index(index, faiss.PyCallbackIOWriter(sink.write))

    entry = publish_file(store / FOLDER / file, write)
    return IndexEntry(target, file, kind, int(index.ntotal), segments, entry)


def open_index(store: Path, entry: IndexEntry) -> Any:
    """Memory-map an index file, after its size and hash agree with the manifest.

    FAISS trusts what it reads, so nothing else may reach it.

    Raises
    ------
    FormatError
        If the file is not the one that the manifest names.
    """
    path = check_plain(store, FOLDER, entry.file, size=entry.entry.bytes)
    if fingerprint(path) != entry.entry:
        raise FormatError(f"{path} was changed after it was published; rebuild it with reindex")
    try:
        with _limited(entry.entry.bytes):
            index = faiss.read_index(str(path), faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise FormatError(f"FAISS cannot read {path}; rebuild it with reindex") from error
    if index.d != EMBEDDING_DIM or index.ntotal != entry.rows:
        raise FormatError(f"{path} does not hold the rows that the manifest states")
    return index


@contextmanager
def _limited(size: int) -> Iterator[None]:
    # No vector of a file is larger than the file. The limit is one for the whole process, so it
    # is given back: others in it may read indexes, too.
    with _READING:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(max(size, 1))
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def search(
    index: Any,
    queries: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.uint8] | None,
) -> NDArray[np.int64]:
    """Clip ids of the ``k`` nearest by inner product, int64 [q, k]; -1 where there are fewer.

    Parameters
    ----------
    queries : ndarray of float32, shape [q, 512]
    allowed : ndarray of uint8 or None
        Bitmap over clip ids (:func:`numpy.packbits`, little-endian); None allows all.
    """
    parameters = None
    if allowed is not None:
        # The selector borrows the bitmap: it stays referenced until the search is over.
        selector = faiss.IDSelectorBitmap(allowed)
        parameters = faiss.SearchParameters(sel=selector)
    _, found = index.search(queries, min(k, max(1, index.ntotal)), params=parameters)
    ids: NDArray[np.int64] = found
    return ids
