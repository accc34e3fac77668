"""Format of stored vectors: float16 unit vectors; a clip without the modality has a zero row.

Everything that depends on the number format is in this module. The numbers of a float16 unit vector
need no scale factor, and their products are exact in float64
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
"""Largest allowed difference of a stored vector's norm from 1. Rounding to float16 has a relative
error of at most 2^-11 per number, so the norm changes by at most 4.9e-4."""

Stored = NDArray[np.float16]

_WIDENED: Final = 512
"""Rows widened per block, which fits in the L2 cache."""
_SIGN_AND_BITS: Final = np.int32(~0x70000000)
_REBASE: Final = np.float32(2.0**112)
_CHECKED: Final = 1 << 20
"""Numbers checked per block."""


def narrow(vectors: NDArray[np.float32]) -> Stored:
    """Round vectors to the stored format.

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
    """Convert stored numbers to float32 by bit shifts, four times as fast as ``astype``.

    Exponent and mantissa of a half, shifted left by 13 bits, are those of a float except for the
    bias of the exponent, which one multiplication corrects, also for subnormal numbers. Infinities
    and NaN, which no stored vector has, become finite.

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
        # the shift copies the sign into the bits below it, which are cleared
        bits[rows] = narrow[rows]
        np.left_shift(bits[rows], 13, out=bits[rows])
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


def bounded(stored: Stored, bound: float) -> bool:
    """Whether every number is at most ``bound`` in magnitude; false for infinities and NaN.

    Parameters
    ----------
    stored : ndarray of float16, of any shape
        Vectors as they are stored.
    bound : float
        Largest magnitude allowed.
    """
    # Halves without the sign bit compare like integers; infinity and NaN are largest.
    limit = int(np.float16(bound).view(np.uint16))
    bits = stored.view(np.uint16).reshape(-1)
    return all(
        int((bits[start : start + _CHECKED] & 0x7FFF).max()) <= limit
        for start in range(0, len(bits), _CHECKED)
    )


def absent_rows(rows: int) -> Stored:
    """Return zero rows, float16, shape [rows, 512], which take no memory.

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
        Mask of null rows, shape [n].
    """
    flat = np.ascontiguousarray(stored, STORED).reshape(-1)
    values = pa.Array.from_buffers(ARROW.value_type, flat.size, [None, pa.py_buffer(flat)])
    if mask is None:
        return pa.Array.from_buffers(ARROW, len(stored), [None], children=[values])
    return pa.FixedSizeListArray.from_arrays(values, type=ARROW, mask=mask)


def of_arrow(values: Any, rows: int) -> Stored:
    """Return an Arrow array of numbers as vectors without a copy.

    Parameters
    ----------
    values : pyarrow.HalfFloatArray
        Array of ``rows`` * 512 numbers without nulls.
    rows : int
        Number of vectors.

    Returns
    -------
    ndarray of float16, shape [rows, 512]
    """
    # From the buffer, because Array.to_numpy imports pandas if installed.
    offset = STORED.itemsize * values.offset
    return np.frombuffer(values.buffers()[1], STORED, len(values), offset).reshape(
        rows, EMBEDDING_DIM
    )
