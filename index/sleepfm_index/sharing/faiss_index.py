"""The vectors of a store as FAISS knows them: an index in memory, and files for other machines.

Either is a ``faiss.IndexIDMap`` over an ``IndexScalarQuantizer`` of float16 codes by inner product:
every clip is compared, and its id is the clip id of the store. It holds the clips there are;
deleted ones are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.reader import Reader
from sleepfm_index.runtime.threads import faiss
from sleepfm_index.schema import check_target
from sleepfm_index.search.blocks import Blocks
from sleepfm_index.search.mapped_vectors import view
from sleepfm_index.storage import vector_format
from sleepfm_index.storage.files import NewFolder, Sink, publish_folder

ORIGIN: Final = "origin.json"
"""What the vectors are, beside the files of an export."""


def faiss_index(store: Reader, target: str) -> Any:
    """Return the vectors of a target as a FAISS index of the caller's own.

    Parameters
    ----------
    store : Reader
        The open store.
    target : str
        One of ``manifest.targets``: a modality, or ``others_of_<modality>``, whose means are
        rounded to float16.

    Returns
    -------
    faiss.IndexIDMap
        A copy in memory, 1 kB per clip; it outlives the store, and changing it changes nothing
        there. Scores are inner products of float16 numbers, summed in float32.

    Raises
    ------
    QueryError
        If the store has no such target.
    """
    check_target(target, store.manifest.modalities)
    named = faiss().IndexIDMap(_empty())
    for ids, vectors in _blocks(store, target):
        named.add_with_ids(vectors, ids)
    return named


def write_files(store: Reader, folder: Path, clip_ids: NDArray[np.int64]) -> None:
    """Write one file for each target, ``<target>.faiss``, for ``faiss.read_index`` anywhere.

    Parameters
    ----------
    store : Reader
        The open store.
    folder : Path
        The folder to make; it appears when all files are complete.
    clip_ids : ndarray of int64
        The clips to write, ascending.
    """
    manifest = store.manifest
    wanted = np.zeros(manifest.stored_ids, bool)
    wanted[clip_ids] = True
    origin = {
        "weights": asdict(manifest.weights),
        "contract_sha256": manifest.contract.sha256,
        "store": manifest.uuid,
        "snapshot": manifest.snapshot,
    }

    def write(made: NewFolder) -> None:
        made.file(ORIGIN).write(json.dumps(origin, indent=1).encode())
        for target in manifest.targets:
            _write(made.file(f"{target}.faiss"), _blocks(store, target, wanted), folder.parent)

    publish_folder(folder, write)


def _write(sink: Sink, blocks: Blocks, scratch: Path) -> None:
    """Write one index; its codes pass through a nameless file, so memory holds clip ids alone."""
    ids = [np.empty(0, np.int64)]
    with TemporaryFile(dir=scratch) as codes:
        for clip_ids, vectors in blocks:
            ids.append(clip_ids)
            codes.write(vector_format.narrow(vectors).tobytes())
        codes.flush()
        index, every = _empty(), np.concatenate(ids)
        named = faiss().IndexIDMap(index)
        if len(every):
            rows = np.memmap(codes, np.uint8, "r")
            index.codes = view(rows)
            faiss().copy_array_to_vector(every, named.id_map)
            index.ntotal = named.ntotal = len(every)
        faiss().write_index(named, faiss().PyCallbackIOWriter(sink.write))


def _blocks(store: Reader, target: str, wanted: NDArray[np.bool_] | None = None) -> Blocks:
    def keep(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        live = store.manifest.live(ids)
        return live if wanted is None else live & wanted[ids]

    def every() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for segment in store.manifest.segments:
            yield from store.vectors.blocks(segment.id, target, keep)

    return every()


def _empty() -> Any:
    half, product = faiss().ScalarQuantizer.QT_fp16, faiss().METRIC_INNER_PRODUCT
    return faiss().IndexScalarQuantizer(EMBEDDING_DIM, half, product)
