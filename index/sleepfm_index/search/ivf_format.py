"""File layout of an inverted file.

Every vector belongs to the list of its nearest centroid and is stored there as a short code; a
query reads the lists of its nearest centroids. The file is a sequence of arrays, whose extents
follow from the kind of index and the number of rows of each list.
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
from sleepfm_index.storage.files import Sink
from sleepfm_index.storage.manifest import IndexEntry
from sleepfm_index.storage.plain_files import check_plain

CODES: Final = {"TC96x4fs": 48, "TC96x4": 48, "SQ4": 256, "SQ8": 512, "RaBitQ4": 276}
"""Bytes per vector of each code. All encode the residual, which is the vector minus its centroid:
transform coding (:mod:`.transform_coding`) in 96 codes of 4 bits, in blocks of 32 rows for the fast
scan (``fs``: André et al. 2017, arXiv 1704.07355) or in row layout; scalar quantisation in 4 or 8
bits per number; RaBitQ (Gao et al. 2024, arXiv 2409.09913)."""
BLOCK_LAYOUT: Final = {"TC96x4fs": "TC96x4"}
"""Codes in blocks, of which the last one of a list is padded with zeros, and the same code in row
layout, which shards have; shards are merged, not searched."""
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
"""Bound of the numbers of a unit vector, including rounding."""
_MAX_LEARNED: Final = 1e6
"""Bound of the numbers of a code, so that products with them stay finite."""
_MAX_LISTS: Final = 1 << 20


@dataclass(frozen=True)
class Layout:
    """Layout of an inverted file.

    Parameters
    ----------
    lists : int
        Number of lists.
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
            Name of the kind of index.
        """
        match = re.fullmatch(r"IVF(\d{1,7}),(\w+)", name)
        lists = int(match[1]) if match else 0
        if match is None or match[2] not in CODES or not 1 <= lists <= _MAX_LISTS:
            return None
        return cls(lists, match[2])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in its list: code and clip id."""
        return CODES[self.code] + _ID_BYTES

    @property
    def row_layout(self) -> Self:
        """The same in row layout instead of blocks."""
        return replace(self, code=BLOCK_LAYOUT.get(self.code, self.code))

    def padded_rows(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows that lists occupy in the file, including padding.

        Parameters
        ----------
        counts : ndarray of int64, shape [lists]
            Number of rows of each list.
        """
        rows: NDArray[np.int64] = -(-counts // self._block) * self._block
        return rows

    @property
    def _block(self) -> int:
        return BLOCK_ROWS if self.code in BLOCK_LAYOUT else 1

    @property
    def array_bytes(self) -> int:
        """Bytes of the arrays after the lists."""
        return sum(
            np.dtype(dtype).itemsize * int(np.prod(shape)) for _, dtype, shape in self.arrays()
        )

    def file_bytes(self, rows: int) -> int:
        """Approximate bytes of a file; on average half a block per list is padding.

        Parameters
        ----------
        rows : int
            Number of clips.
        """
        padding = self.lists * (self._block - 1) // 2
        return (rows + padding) * self.row_bytes + self.array_bytes

    def arrays(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """List name, dtype and shape of the arrays after the lists, in order."""
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
        Layout of the lists and their codes.
    centroids : ndarray of float32, shape [lists, 512]
        Centroids of the lists, of unit norm.
    learned : ndarray of float32, shape [n]
        Learned numbers of the code: for a scalar quantiser 512 minima and 512 ranges; for a
        transform code :attr:`.TransformCode.learned`; otherwise empty.
    """

    layout: Layout
    centroids: NDArray[np.float32]
    learned: NDArray[np.float32]

    @property
    def transform(self) -> TransformCode | None:
        """The transform code, or None for other codes."""
        return TransformCode.of(self.learned) if self.layout.code.startswith("TC") else None

    @property
    def row_layout(self) -> Structure:
        """The same in row layout instead of blocks."""
        return replace(self, layout=self.layout.row_layout)


def write_arrays(sink: Sink, structure: Structure, counts: NDArray[np.int64]) -> None:
    """Write the arrays after the lists.

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
    """Read the arrays after the lists of a published file, without the lists.

    Parameters
    ----------
    store : Path
        The store's folder.
    entry : IndexEntry
        Entry of the index in the manifest.

    Returns
    -------
    path : Path
        The file.
    structure : Structure
        Centroids and code of the index.
    counts : ndarray of int64, shape [lists]
        Number of rows of each list.

    Raises
    ------
    FormatError
        If the file is missing, or its size or its lists do not match the number of rows.
    """
    layout = Layout.parse(entry.kind)
    if layout is None:
        raise FormatError(f"{entry.file} is not an inverted file but {entry.kind}")
    path = check_plain(store, paths.INDEXES, entry.file, size=entry.entry.bytes)
    lists_end = offset = entry.entry.bytes - layout.array_bytes
    if offset < 0:
        raise FormatError(f"{path} does not hold the rows that the manifest states")
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype, shape in layout.arrays():
        arrays[name] = np.fromfile(path, dtype, int(np.prod(shape)), offset=offset).reshape(shape)
        offset += arrays[name].nbytes
    counts = arrays.pop("counts")
    fits = counts.min() >= 0 and counts.max() <= entry.rows and counts.sum() == entry.rows
    fits = fits and int(layout.padded_rows(counts).sum()) * layout.row_bytes == lists_end
    fits = fits and float(np.abs(arrays["centroids"]).max()) < _UNIT
    fits = fits and float(np.abs(arrays["learned"]).max(initial=0)) < _MAX_LEARNED
    if not fits or not all(np.isfinite(array).all() for array in arrays.values()):
        raise FormatError(f"{path} is damaged; run `sleepfm-index verify --repair`")
    return path, Structure(layout, **arrays), counts
