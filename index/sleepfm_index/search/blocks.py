"""Vectors in blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROWS: Final = 1 << 15

Blocks = Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Clip ids, int64 [m], and vectors, float32 [m, 512]; each clip once, in ascending order of id."""


def gathered(blocks: Blocks) -> Blocks:
    """Join blocks until they are large enough for all threads.

    Parameters
    ----------
    blocks : iterable of (clip_ids, vectors)
        Clip ids, int64 [m], and vectors, float32 [m, 512], block by block.
    """
    pending: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    rows = 0
    for block in blocks:
        pending.append(block)
        rows += len(block[0])
        if rows >= _ROWS:
            yield _joined(pending)
            pending, rows = [], 0
    if rows:
        yield _joined(pending)


def _joined(
    blocks: list[tuple[NDArray[np.int64], NDArray[np.float32]]],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    ids, vectors = zip(*blocks, strict=True)
    return np.concatenate(ids), np.ascontiguousarray(np.concatenate(vectors))
