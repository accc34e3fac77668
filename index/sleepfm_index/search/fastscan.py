"""Rows of a list as they lie in the file: one by one, or in the blocks of FAISS's fast scan."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.runtime.threads import faiss
from sleepfm_index.search.index_format import CODES, PACKED, ROWS, Kind
from sleepfm_index.search.transform_coding import STAGES
from sleepfm_index.storage.files import Sink

Codes = NDArray[np.uint8]


def write_list(sink: Sink, kind: Kind, codes: Codes, ids: NDArray[np.int64]) -> None:
    """Write the rows of one list: their codes, uint8 [n, width], then their clip ids."""
    empty = int(kind.room(np.array(len(ids), np.int64))) - len(ids)
    filled = np.concatenate([codes, np.zeros((empty, codes.shape[1]), np.uint8)])
    sink.write(_repacked(kind, filled, "pack_all").tobytes())
    sink.write(np.concatenate([ids, np.zeros(empty, np.int64)]).astype("<i8").tobytes())


def read_list(kind: Kind, content: Codes, count: int) -> tuple[Codes, NDArray[np.int64]]:
    """Give codes, uint8 [n, width], and clip ids of a list from its bytes."""
    width = CODES[kind.code]
    ids = int(kind.room(np.array(count, np.int64))) * width
    codes = _repacked(kind, content[:ids].reshape(-1, width), "unpack_all")
    return codes[:count], content[ids : ids + 8 * count].view("<i8")


def _repacked(kind: Kind, rows: Codes, way: str) -> Codes:
    if kind.code not in PACKED:
        return rows
    repack = getattr(_packer(), way)
    rows, out = np.ascontiguousarray(rows), np.empty_like(rows)
    for at in range(0, len(rows), ROWS):
        repack(faiss().swig_ptr(rows[at:]), faiss().swig_ptr(out[at:]))
    return out


@cache
def _packer() -> Any:
    # FAISS gives one for an index only.
    flat = faiss().IndexPQFastScan(STAGES, STAGES, 4, faiss().METRIC_INNER_PRODUCT, ROWS)
    return flat.get_CodePacker()
