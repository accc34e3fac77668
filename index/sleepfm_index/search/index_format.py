"""The index of one target: which kinds there are, and how one lies in its file.

An inverted file: every vector belongs to the list of its nearest centroid and is stored there as a
short code; a query reads the lists of its own nearest centroids. The file is made of arrays, whose
extents follow from the kind of index and the rows of each list: FAISS is handed arrays, never a
file of its own format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.search import transform_coding
from sleepfm_index.search.transform_coding import TransformCode
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import Sink, check_plain
from sleepfm_index.storage.manifest import IndexEntry

EXACT: Final = "exact"
CODES: Final = {"TC96x4fs": 48, "TC96x4": 48, "SQ4": 256, "SQ8": 512, "RaBitQ4": 276}
"""Bytes that a vector takes in each code, which is of what is left after the centroid is
subtracted: transform coding (:mod:`.transform`) in 96 codes of 4 bits, in blocks of 32 rows that
are scanned at once (``fs``: André et al. 2017, arXiv 1704.07355) or row by row; scalar quantisation
in 4 or 8 bits a number; RaBitQ (Gao et al. 2024, arXiv 2409.09913)."""
PACKED: Final = {"TC96x4fs": "TC96x4"}
"""Codes whose lists consist of whole blocks, the last one filled up with zeros; and what they are
before their rows are put into blocks, which are merged and not searched."""
ROWS: Final = 32
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
class Kind:
    """An inverted file: its number of lists and how vectors are coded in them."""

    lists: int
    code: str

    def __str__(self) -> str:
        return f"IVF{self.lists},{self.code}"

    @classmethod
    def parse(cls, text: str) -> Kind:
        """Read ``IVF16384,SQ4``.

        Raises
        ------
        QueryError
            If there is no such kind of index.
        """
        match = re.fullmatch(r"IVF(\d{1,7}),(\w+)", text)
        lists = int(match[1]) if match else 0
        if match is None or match[2] not in CODES or not 1 <= lists <= _MOST_LISTS:
            names = ", ".join(f"IVF<lists>,{code}" for code in CODES if code not in PACKED.values())
            raise QueryError(f"no index {text!r}; choose from {EXACT}, {names}")
        return cls(lists, match[2])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in its list: code and clip id."""
        return CODES[self.code] + _ID_BYTES

    @property
    def loose(self) -> Kind:
        """The same with rows that lie one by one."""
        return Kind(self.lists, PACKED.get(self.code, self.code))

    def room(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows that lists take in the file, whole blocks."""
        rows: NDArray[np.int64] = -(-counts // self._block) * self._block
        return rows

    @property
    def _block(self) -> int:
        return ROWS if self.code in PACKED else 1

    @property
    def array_bytes(self) -> int:
        """Bytes of what follows the lists."""
        return sum(
            np.dtype(kind).itemsize * int(np.prod(shape)) for _, kind, shape in self.arrays()
        )

    def file_bytes(self, rows: int) -> int:
        """Bytes of a file over some rows, about: on average half a block a list is empty."""
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
    """What training gives.

    Parameters
    ----------
    kind : Kind
    centroids : ndarray of float32, shape [lists, 512]
    learned : ndarray of float32
        Of a scalar quantiser, 512 least values and 512 ranges; of a transform code, its numbers;
        else empty.
    """

    kind: Kind
    centroids: NDArray[np.float32]
    learned: NDArray[np.float32]

    @property
    def transform(self) -> TransformCode | None:
        """The transform code, if vectors are coded by one."""
        return TransformCode.of(self.learned) if self.kind.code.startswith("TC") else None

    @property
    def loose(self) -> Structure:
        """The same for rows that lie one by one."""
        return replace(self, kind=self.kind.loose)


def write_arrays(sink: Sink, structure: Structure, counts: NDArray[np.int64]) -> None:
    """Write what follows the lists."""
    for name, kind, _ in structure.kind.arrays():
        values: Any = counts if name == "counts" else getattr(structure, name)
        sink.write(np.ascontiguousarray(values, kind).tobytes())


def read_arrays(store: Path, entry: IndexEntry) -> tuple[Path, Structure, NDArray[np.int64]]:
    """Read what follows the lists of a published file; the lists themselves are not read.

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
    kind = _known(entry)
    path = check_plain(store, paths.INDEXES, entry.file, size=entry.entry.bytes)
    lists_end = offset = entry.entry.bytes - kind.array_bytes
    if offset < 0:
        raise FormatError(f"{path} does not hold the rows that the manifest states")
    found: dict[str, NDArray[Any]] = {}
    for name, dtype, shape in kind.arrays():
        found[name] = np.fromfile(path, dtype, int(np.prod(shape)), offset=offset).reshape(shape)
        offset += found[name].nbytes
    counts = found.pop("counts")
    fits = counts.min() >= 0 and counts.max() <= entry.rows and counts.sum() == entry.rows
    fits = fits and int(kind.room(counts).sum()) * kind.row_bytes == lists_end
    fits = fits and float(np.abs(found["centroids"]).max()) < _UNIT
    fits = fits and float(np.abs(found["learned"]).max(initial=0)) < _LEARNED_MOST
    if not fits or not all(np.isfinite(array).all() for array in found.values()):
        raise FormatError(f"{path} is damaged; run `sleepfm-index verify --repair`")
    return path, Structure(kind, **found), counts


def is_inverted(kind: str) -> bool:
    """Whether an entry of the manifest is an inverted file; format 1 began with exact copies."""
    return kind.startswith("IVF")


def is_searchable(kind: str) -> bool:
    """Whether it is an inverted file of a kind that is known here, and not a shard's."""
    try:
        return Kind.parse(kind).code not in PACKED.values()
    except QueryError:
        return False


def _known(entry: IndexEntry) -> Kind:
    try:
        return Kind.parse(entry.kind)
    except QueryError as error:
        raise FormatError(str(error)) from None
