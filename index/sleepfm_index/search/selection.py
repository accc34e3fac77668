"""Clips that a search may return, without excluded and deleted clips."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.runtime.threads import faiss
from sleepfm_index.storage.manifest import Manifest

_MAX_RANGES: Final = 8
"""Maximum number of id ranges for FAISS range selectors; more use one bitmap over all ids."""

Run = tuple[int, int]


@dataclass(frozen=True)
class Selection:
    """Clips that may be found.

    Parameters
    ----------
    limit : int
        Exclusive upper bound of the clip ids.
    allowed : ndarray of int64, shape [n], optional
        Ascending clip ids; None allows all.
    without : tuple of (int, int)
        First and last clip id of excluded runs, both inclusive.
    rows : int
        Number of clips of the store.
    """

    limit: int
    allowed: NDArray[np.int64] | None
    without: tuple[Run, ...]
    rows: int
    _excluded: tuple[Run, ...] = field(default=())

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        allowed: NDArray[np.int64] | None = None,
        without: tuple[Run, ...] = (),
    ) -> Selection:
        """Select allowed clips, without deleted ones.

        Parameters
        ----------
        manifest : Manifest
            The snapshot of the store.
        allowed : ndarray of int64, shape [n], optional
            Ascending clip ids; None allows all.
        without : tuple of (int, int)
            First and last clip id of runs to exclude, both inclusive.
        """
        return cls(manifest.stored_ids, allowed, (*manifest.deleted, *without), manifest.rows)

    def excluding(self, first: int, last: int) -> Selection:
        """Return the selection without one more run; both share their bitmap.

        Parameters
        ----------
        first, last : int
            First and last clip id of the run, both inclusive.
        """
        changed = replace(self, _excluded=(*self._excluded, (int(first), int(last))))
        for name in ("_bits", "_bitmap"):
            if name in self.__dict__:
                changed.__dict__[name] = self.__dict__[name]
        return changed

    @property
    def count(self) -> int:
        """Upper bound of the number of selected clips."""
        return self.rows if self.allowed is None else len(self.allowed)

    @property
    def all(self) -> bool:
        """Whether all clips are selected."""
        return self.allowed is None and not self.without and not self._excluded

    @property
    def keep(self) -> Any:
        """Function that maps clip ids to the mask of selected ones; None if all are selected."""
        return None if self.all else self._keep

    def ids(self) -> NDArray[np.int64]:
        """Return the selected clip ids, ascending; only for a selection with ``allowed``."""
        assert self.allowed is not None
        allowed = self.allowed[self.allowed < self.limit]
        return allowed[self._keep(allowed)] if self.without or self._excluded else allowed

    def selector(self) -> Any | None:
        """Return the selection as a FAISS selector; None if all clips are selected."""
        if self.all:
            return None
        parts = [self._without(first, last) for first, last in self._excluded]
        if self.allowed is None and len(self.without) <= _MAX_RANGES:
            parts += [self._without(first, last) for first, last in self.without]
        else:
            parts.append(faiss().IDSelectorBitmap(self._bitmap))
        combined = parts[0]
        for part in parts[1:]:
            combined = faiss().IDSelectorAnd(combined, part)
        return combined

    def _without(self, first: int, last: int) -> Any:
        return faiss().IDSelectorNot(faiss().IDSelectorRange(first, last + 1))

    def _keep(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self.allowed is None and len(self.without) <= _MAX_RANGES:
            kept = np.ones(len(ids), bool)
            for first, last in self.without:
                kept &= (ids < first) | (ids > last)
        else:
            kept = self._bits[ids]
        for first, last in self._excluded:
            kept = kept & ((ids < first) | (ids > last))
        return kept

    @cached_property
    def _bits(self) -> NDArray[np.bool_]:
        bits = np.zeros(self.limit, bool)
        bits[slice(None) if self.allowed is None else self.allowed[self.allowed < self.limit]] = (
            True
        )
        for first, last in self.without:
            bits[max(0, first) : last + 1] = False
        return bits

    @cached_property
    def _bitmap(self) -> NDArray[np.uint8]:
        return np.packbits(self._bits, bitorder="little")
