"""Clips allowed in a search, without excluded and deleted ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.runtime.threads import faiss
from sleepfm_index.storage.manifest import Manifest

_MOST_RANGES: Final = 8
"""Up to this many id ranges become FAISS range selectors; beyond, one bitmap over all ids."""

Run = tuple[int, int]


@dataclass(frozen=True)
class Selection:
    """Clips that may be found.

    Parameters
    ----------
    limit : int
        Clip ids lie below it.
    allowed : ndarray of int64, optional
        Ascending clip ids; None allows all.
    without : tuple of (first, last)
        Runs of clip ids that are left out, both ends included.
    rows : int
        Clips of the store.
    """

    limit: int
    allowed: NDArray[np.int64] | None
    without: tuple[Run, ...]
    rows: int
    _apart: tuple[Run, ...] = field(default=())

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
        allowed : ndarray of int64, optional
            Ascending clip ids; None allows all.
        without : tuple of (first, last)
            Runs of clip ids to leave out, both ends included.
        """
        return cls(manifest.stored_ids, allowed, (*manifest.deleted, *without), manifest.rows)

    def but(self, first: int, last: int) -> Selection:
        """Leave one more run out; the bitmap of the others is shared.

        Parameters
        ----------
        first, last : int
            Clip ids, both included.
        """
        changed = replace(self, _apart=(*self._apart, (int(first), int(last))))
        for known in ("_bits", "_bitmap"):
            if known in self.__dict__:
                changed.__dict__[known] = self.__dict__[known]
        return changed

    @property
    def count(self) -> int:
        """Clips that may be found, at most."""
        return self.rows if self.allowed is None else len(self.allowed)

    @property
    def all(self) -> bool:
        """Whether all clips are allowed."""
        return self.allowed is None and not self.without and not self._apart

    @property
    def keep(self) -> Any:
        """A function that says of clip ids whether they may be found; None where all may."""
        return None if self.all else self._keep

    def ids(self) -> NDArray[np.int64]:
        """Ids of the clips that may be found, ascending; only where some are allowed by name."""
        assert self.allowed is not None
        named = self.allowed[self.allowed < self.limit]
        return named[self._keep(named)] if self.without or self._apart else named

    def selector(self) -> Any | None:
        """FAISS's form of it; None where all may be found."""
        if self.all:
            return None
        parts = [self._without(first, last) for first, last in self._apart]
        if self.allowed is None and len(self.without) <= _MOST_RANGES:
            parts += [self._without(first, last) for first, last in self.without]
        else:
            parts.append(faiss().IDSelectorBitmap(self._bitmap))
        chosen = parts[0]
        for part in parts[1:]:
            chosen = faiss().IDSelectorAnd(chosen, part)
        return chosen

    def _without(self, first: int, last: int) -> Any:
        return faiss().IDSelectorNot(faiss().IDSelectorRange(first, last + 1))

    def _keep(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self.allowed is None and len(self.without) <= _MOST_RANGES:
            kept = np.ones(len(ids), bool)
            for first, last in self.without:
                kept &= (ids < first) | (ids > last)
        else:
            kept = self._bits[ids]
        for first, last in self._apart:
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
