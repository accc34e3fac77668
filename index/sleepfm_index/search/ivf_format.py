"""File layout of an inverted file.

Every vector belongs to the list of its nearest centroid and is stored there as a short code; a
query reads the lists of its own nearest centroids. The file is made of arrays, whose extents follow
from the kind of index and the rows of each list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import FormatError
from sleepfm_index.search import transform_coding
from sleepfm_index.search.transform_coding import TransformCode
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import Sink, check_plain
from sleepfm_index.storage.manifest import IndexEntry

CODES: Final = {"TC96x4fs": 48, "TC96x4": 48, "SQ4": 256, "SQ8": 512, "RaBitQ4": 276}
"""Bytes of a vector in each code, which codes the residual, the vector less its centroid:
transform coding (:mod:`.transform_coding`) in 96 codes of 4 bits, in blocks of 32 rows that
are scanned at once (``fs``: André et al. 2017, arXiv 1704.07355) or row by row; scalar quantisation
in 4 or 8 bits per number; RaBitQ (Gao et al. 2024, arXiv 2409.09913)."""
BLOCK_LAYOUT: Final = {"TC96x4fs": "TC96x4"}
"""Codes whose lists are whole blocks, the last one filled up with zeros, with the same code in row
layout, one row after another: shards have that, and are merged and not searched."""
BLOCK_ROWS: Final = 32
"""Rows of a block."""
_LEARNED: Final = {
    "TC96x4fs": transform_coding.LEARNED,
    "TC96x4": transform_coding.LEARNED,
    "SQ4": 2 * EMBEDDING_DIM,
    "SQ8": 2 * EMBEDDING_DIM,
    "RaBitQ4": 0,
}
_ID_BYTES: Final = 8
_UNIT: Final = 1.01
"""No number of a vector of length one is larger, rounding included."""
_LEARNED_MOST: Final = 1e6
"""No number of a code is larger; products with it stay finite."""
_MOST_LISTS: Final = 1 << 20


@dataclass(frozen=True)
class Layout:
    """The shape of an inverted file.

    Parameters
    ----------
    lists : int
    code : str
        One of :data:`CODES`.
    """

    lists: int
    code: str

    def __str__(self) -> str:
        return f"IVF{self.lists},{self.code}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Read ``IVF16384,SQ4``; None if it is not such a name.

        Parameters
        ----------
        name : str
            Name of the kind.
        """
        match = re.fullmatch(r"IVF(\d{1,7}),(\w+)", name)
        lists = int(match[1]) if match else 0
        if match is None or match[2] not in CODES or not 1 <= lists <= _MOST_LISTS:
            return None
        return cls(lists, match[2])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in its list: code and clip id."""
        return CODES[self.code] + _ID_BYTES

    @property
    def row_layout(self) -> Self:
        """The same with rows one after another instead of in blocks."""
        return replace(self, code=BLOCK_LAYOUT.get(self.code, self.code))

    def padded_rows(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows that lists take in the file, whole blocks.

        Parameters
        ----------
        counts : ndarray of int64
            Rows of each list.
        """
        rows: NDArray[np.int64] = -(-counts // self._block) * self._block
        return rows

    @property
    def _block(self) -> int:
        return BLOCK_ROWS if self.code in BLOCK_LAYOUT else 1

    @property
    def array_bytes(self) -> int:
        """Bytes of what follows the lists."""
        return sum(
            np.dtype(dtype).itemsize * int(np.prod(shape)) for _, dtype, shape in self.arrays()
        )

    def file_bytes(self, rows: int) -> int:
        """Bytes of a file, about: on average half a block per list is empty.

        Parameters
        ----------
        rows : int
            Number of clips.
        """
        empty = self.lists * (self._block - 1) // 2
        return (rows + empty) * self.row_bytes + self.array_bytes

    def arrays(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """List what follows the lists in a file: (name, type, shape) of each array, in order."""
        return (
            ("counts", "<i8", (self.lists,)),
            ("centroids", "<f4", (self.lists, EMBEDDING_DIM)),
            ("learned", "<f4", (_LEARNED[self.code],)),
        )


@dataclass(frozen=True)
class Structure:
    """Result of training.

    Parameters
    ----------
    layout : Layout
    centroids : ndarray of float32, shape [lists, 512]
    learned : ndarray of float32
        Of a scalar quantiser, 512 least values and 512 ranges; of a transform code, its numbers;
        else empty.
    """

    layout: Layout
    centroids: NDArray[np.float32]
    learned: NDArray[np.float32]

    @property
    def transform(self) -> TransformCode | None:
        """The transform code, if vectors are coded by one."""
        return TransformCode.of(self.learned) if self.layout.code.startswith("TC") else None

    @property
    def row_layout(self) -> Structure:
        """The same with rows one after another instead of in blocks."""
        return replace(self, layout=self.layout.row_layout)


def write_arrays(sink: Sink, structure: Structure, counts: NDArray[np.int64]) -> None:
    """Write what follows the lists.

    Parameters
    ----------
    sink : Sink
        The file being written.
    structure : Structure
        Centroids and code of the index.
    counts : ndarray of int64, shape [lists]
        Rows of each list.
    """
    for name, dtype, _ in structure.layout.arrays():
        values: Any = counts if name == "counts" else getattr(structure, name)
        sink.write(np.ascontiguousarray(values, dtype).tobytes())


def read_arrays(store: Path, entry: IndexEntry) -> tuple[Path, Structure, NDArray[np.int64]]:
    """Read what follows the lists of a published file; the lists themselves are not read.

    Parameters
    ----------
    store : Path
        The store's folder.
    entry : IndexEntry
        Entry of the index in the manifest.

    Returns
    -------
    path : Path
    structure : Structure
    counts : ndarray of int64, shape [lists]
        Rows of each list.

    Raises
    ------
    FormatError
        If the file is missing, is not as long as its rows need, or its lists are not of its rows.
    """
    layout = Layout.parse(entry.kind)
    if layout is None:
        raise FormatError(f"{entry.file} is not an inverted file but {entry.kind}")
    path = check_plain(store, paths.INDEXES, entry.file, size=entry.entry.bytes)
    lists_end = offset = entry.entry.bytes - layout.array_bytes
    if offset < 0:
        raise FormatError(f"{path} does not hold the rows that the manifest states")
    found: dict[str, NDArray[Any]] = {}
    for name, dtype, shape in layout.arrays():
        found[name] = np.fromfile(path, dtype, int(np.prod(shape)), offset=offset).reshape(shape)
        offset += found[name].nbytes
    counts = found.pop("counts")
    fits = counts.min() >= 0 and counts.max() <= entry.rows and counts.sum() == entry.rows
    fits = fits and int(layout.padded_rows(counts).sum()) * layout.row_bytes == lists_end
    fits = fits and float(np.abs(found["centroids"]).max()) < _UNIT
    fits = fits and float(np.abs(found["learned"]).max(initial=0)) < _LEARNED_MOST
    if not fits or not all(np.isfinite(array).all() for array in found.values()):
        raise FormatError(f"{path} is damaged; run `sleepfm-index verify --repair`")
    return path, Structure(layout, **found), counts
