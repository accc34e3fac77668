"""Rows of a list in the file: in row layout, or in the blocks of FAISS's fast scan."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.runtime.threads import faiss
from sleepfm_index.search.ivf_format import BLOCK_LAYOUT, BLOCK_ROWS, CODES, Layout
from sleepfm_index.search.transform_coding import STAGES
from sleepfm_index.storage.files import Sink

Codes = NDArray[np.uint8]


def write_list(sink: Sink, layout: Layout, codes: Codes, ids: NDArray[np.int64]) -> None:
    """Write the rows of one list: their codes, then their clip ids.

    Parameters
    ----------
    sink : Sink
        The file being written.
    layout : Layout
        Layout of the lists and their codes.
    codes : ndarray of uint8, shape [n, width]
        Codes of the rows.
    ids : ndarray of int64, shape [n]
        Clip ids of the rows.
    """
    padding = int(layout.padded_rows(np.array(len(ids), np.int64))) - len(ids)
    filled = np.concatenate([codes, np.zeros((padding, codes.shape[1]), np.uint8)])
    sink.write(_repacked(layout, filled, "pack_all").tobytes())
    sink.write(np.concatenate([ids, np.zeros(padding, np.int64)]).astype("<i8").tobytes())


def read_list(layout: Layout, content: Codes, count: int) -> tuple[Codes, NDArray[np.int64]]:
    """Read the rows of one list.

    Parameters
    ----------
    layout : Layout
        Layout of the lists and their codes.
    content : ndarray of uint8
        The bytes of the list.
    count : int
        Number of rows of the list, without padding.

    Returns
    -------
    codes : ndarray of uint8, shape [count, width]
    ids : ndarray of int64, shape [count]
    """
    width = CODES[layout.code]
    ids = int(layout.padded_rows(np.array(count, np.int64))) * width
    codes = _repacked(layout, content[:ids].reshape(-1, width), "unpack_all")
    return codes[:count], content[ids : ids + 8 * count].view("<i8")


def _repacked(layout: Layout, rows: Codes, method: str) -> Codes:
    if layout.code not in BLOCK_LAYOUT:
        return rows
    repack = getattr(_packer(), method)
    rows, out = np.ascontiguousarray(rows), np.empty_like(rows)
    for start in range(0, len(rows), BLOCK_ROWS):
        repack(faiss().swig_ptr(rows[start:]), faiss().swig_ptr(out[start:]))
    return out


@cache
def _packer() -> Any:
    # FAISS creates a code packer for an index only.
    flat = faiss().IndexPQFastScan(STAGES, STAGES, 4, faiss().METRIC_INNER_PRODUCT, BLOCK_ROWS)
    return flat.get_CodePacker()
