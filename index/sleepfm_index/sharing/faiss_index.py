"""The vectors of a store as FAISS indexes: in memory, or as files for other machines.

Both are a ``faiss.IndexIDMap`` over an ``IndexScalarQuantizer`` of float16 codes with the inner
product: an exact search over all clips that are not deleted, with the clip ids of the store.
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
"""File of an export that describes the vectors: weights, contract, store and snapshot."""


def faiss_index(store: Reader, target: str) -> Any:
    """Return the vectors of a target as a new FAISS index.

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
        A copy in memory of 1 kB per clip, independent of the store. Scores are inner products of
        float16 numbers, summed in float32.

    Raises
    ------
    QueryError
        If the store has no such target.
    """
    check_target(target, store.manifest.modalities)
    with_ids = faiss().IndexIDMap(_empty())
    for ids, vectors in _blocks(store, target):
        with_ids.add_with_ids(vectors, ids)
    return with_ids


def write_files(store: Reader, folder: Path, clip_ids: NDArray[np.int64]) -> None:
    """Write one file for each target, ``<target>.faiss``, for ``faiss.read_index`` anywhere.

    Parameters
    ----------
    store : Reader
        The open store.
    folder : Path
        The folder to create; it appears when all files are complete.
    clip_ids : ndarray of int64, shape [n]
        The clips to write, ascending.
    """
    manifest = store.manifest
    selected = np.zeros(manifest.stored_ids, bool)
    selected[clip_ids] = True
    origin = {
        "weights": asdict(manifest.weights),
        "contract_sha256": manifest.contract.sha256,
        "store": manifest.uuid,
        "snapshot": manifest.snapshot,
    }

    def write(new_folder: NewFolder) -> None:
        new_folder.file(ORIGIN).write(json.dumps(origin, indent=1).encode())
        for target in manifest.targets:
            _write(
                new_folder.file(f"{target}.faiss"), _blocks(store, target, selected), folder.parent
            )

    publish_folder(folder, write)


def _write(sink: Sink, blocks: Blocks, scratch: Path) -> None:
    """Write one index; its codes pass through a temporary file, so only clip ids are in memory."""
    ids = [np.empty(0, np.int64)]
    with TemporaryFile(dir=scratch) as codes:
        for clip_ids, vectors in blocks:
            ids.append(clip_ids)
            codes.write(vector_format.narrow(vectors).tobytes())
        codes.flush()
        index, all_ids = _empty(), np.concatenate(ids)
        with_ids = faiss().IndexIDMap(index)
        if len(all_ids):
            rows = np.memmap(codes, np.uint8, "r")
            index.codes = view(rows)
            faiss().copy_array_to_vector(all_ids, with_ids.id_map)
            index.ntotal = with_ids.ntotal = len(all_ids)
        faiss().write_index(with_ids, faiss().PyCallbackIOWriter(sink.write))


def _blocks(store: Reader, target: str, selected: NDArray[np.bool_] | None = None) -> Blocks:
    def keep(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        live = store.manifest.live(ids)
        return live if selected is None else live & selected[ids]

    def live_blocks() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for segment in store.manifest.segments:
            yield from store.vectors.blocks(segment.id, target, keep)

    return live_blocks()


def _empty() -> Any:
    half, product = faiss().ScalarQuantizer.QT_fp16, faiss().METRIC_INNER_PRODUCT
    return faiss().IndexScalarQuantizer(EMBEDDING_DIM, half, product)
