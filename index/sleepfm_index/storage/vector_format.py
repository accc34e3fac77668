"""Format of stored vectors: float16 unit vectors, and zero rows if absent.

Whatever depends on this format is here, so a store of other numbers is a change of this file. The
numbers of a float16 unit vector need no scale. Its products are exact in float64
(:func:`sleepfm_index.search.exact.exact_scores`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM

STORED: Final = np.dtype("<f2")
"""Type of a stored number."""
NAME: Final = "float16"
ROW_BYTES: Final = STORED.itemsize * EMBEDDING_DIM
"""Bytes of a stored vector."""
ARROW: Final = pa.list_(pa.float16(), EMBEDDING_DIM)
"""A stored vector as an Arrow type."""
NORM_TOLERANCE: Final = 1e-3
"""Most that the length of a stored vector may differ from 1. Rounding to float16 changes a number
by at most 2^-11 of itself, so a length by at most 4.9e-4."""

Stored = NDArray[np.float16]

_WIDENED: Final = 512
"""Rows widened at once, so that the passes over them stay in the second-level cache."""
_SIGN_AND_BITS: Final = np.int32(~0x70000000)
_REBASE: Final = np.float32(2.0**112)
_CHECKED: Final = 1 << 20
"""Numbers checked at once."""


def narrow(vectors: NDArray[np.float32]) -> Stored:
    """Round vectors to what is stored.

    Parameters
    ----------
    vectors : ndarray of float32, shape [n, 512]
        Unit vectors.

    Returns
    -------
    ndarray of float16, shape [n, 512]
    """
    return vectors.astype(STORED)


def widen(stored: Stored) -> NDArray[np.float32]:
    """Turn stored numbers into float32 by shifts, four times as fast as ``astype``.

    A half's exponent and mantissa, 13 bits to the left, are a float's but for the bias of the
    exponent, which one product corrects, subnormal numbers included. Infinities and NaN, which no
    stored vector holds, become finite.

    Parameters
    ----------
    stored : ndarray of float16, shape [n, ...]
        Vectors as they are stored.

    Returns
    -------
    ndarray of float32, of the same shape
    """
    wide = np.empty(stored.shape, np.float32)
    bits, narrow = wide.view(np.int32), stored.view(np.int16)
    for start in range(0, len(stored), _WIDENED):
        rows = slice(start, start + _WIDENED)
        # the sign was carried through the bits between it and the exponent; they are cleared
        np.left_shift(narrow[rows], 13, out=bits[rows], dtype=np.int32)
        np.bitwise_and(bits[rows], _SIGN_AND_BITS, out=bits[rows])
        np.multiply(wide[rows], _REBASE, out=wide[rows])
    return wide


def present(stored: Stored) -> NDArray[np.bool_]:
    """Mask of non-zero rows, tested by bits, four numbers at a time.

    Parameters
    ----------
    stored : ndarray of float16, shape [n, 512]
        Vectors as they are stored.

    Returns
    -------
    ndarray of bool, shape [n]
    """
    if stored.strides[-1] != stored.itemsize:  # zero rows without a file
        return np.zeros(len(stored), bool)
    return np.asarray(np.bitwise_or.reduce(stored.view(np.uint64), axis=1) != 0)


def bounded(stored: Stored, most: float) -> bool:
    """Whether every number lies within ``most`` of zero; false for infinities and NaN.

    Parameters
    ----------
    stored : ndarray of float16, of any shape
        Vectors as they are stored.
    most : float
        Largest magnitude allowed.
    """
    # Without the sign, halves are ordered as their bits are; NaN and infinity are above all.
    limit = int(np.float16(most).view(np.uint16))
    bits = stored.view(np.uint16).reshape(-1)
    return all(
        int((bits[at : at + _CHECKED] & 0x7FFF).max()) <= limit
        for at in range(0, len(bits), _CHECKED)
    )


def absent_rows(rows: int) -> Stored:
    """Return zero rows, shape [rows, 512], which take no memory.

    Parameters
    ----------
    rows : int
        Number of rows.
    """
    return np.broadcast_to(np.zeros(1, STORED), (rows, EMBEDDING_DIM))


def as_arrow(stored: Stored, mask: pa.Array | None = None) -> pa.Array:
    """Return vectors as an Arrow column; contiguous ones are not copied.

    Parameters
    ----------
    stored : ndarray of float16, shape [n, 512]
        Vectors as they are stored.
    mask : pyarrow.Array of bool, optional
        Which rows are null.
    """
    flat = np.ascontiguousarray(stored, STORED).reshape(-1)
    values = pa.Array.from_buffers(ARROW.value_type, flat.size, [None, pa.py_buffer(flat)])
    if mask is None:
        return pa.Array.from_buffers(ARROW, len(stored), [None], children=[values])
    return pa.FixedSizeListArray.from_arrays(values, type=ARROW, mask=mask)


def of_arrow(values: Any, rows: int) -> Stored:
    """Return the vectors whose numbers lie in an Arrow array, without copying them.

    Parameters
    ----------
    values : pyarrow.HalfFloatArray
        ``rows`` times 512 numbers without nulls.
    rows : int
        Number of vectors.

    Returns
    -------
    ndarray of float16, shape [rows, 512]
    """
    # From the buffer, because Array.to_numpy imports pandas where there is one.
    offset = STORED.itemsize * values.offset
    return np.frombuffer(values.buffers()[1], STORED, len(values), offset).reshape(
        rows, EMBEDDING_DIM
    )
