"""Ranks of clips in all directions at once, kept until all directions were asked for."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.evaluation.labels.columns import has
from sleepfm_index.evaluation.retrieval.tiled_ranks import shared_ranks
from sleepfm_index.reader import Reader
from sleepfm_index.schema import OTHERS

_Ranks = tuple[NDArray[np.int64], NDArray[np.int64]]


class RankCache:
    """Ranks of some clips, computed for all directions when the first is asked for.

    Parameters
    ----------
    store : Reader
    clip_ids : ndarray of int64, shape [n]
    """

    def __init__(self, store: Reader, clip_ids: NDArray[np.int64]) -> None:
        self._store = store
        self._clip_ids = clip_ids
        self._known: dict[tuple[bytes, str], dict[tuple[str, str], _Ranks]] = {}

    def of(self, query: str, to: str, at: NDArray[np.int64]) -> _Ranks | None:
        """Ranks and hits of one direction; None where the directions share nothing.

        Parameters
        ----------
        query, to : str
            Query and target of the direction.
        at : ndarray of int64, shape [m]
            Which of the clips, by place.
        """
        if "+" in query:
            return None
        ids = self._clip_ids[at]
        known = self._store.manifest.modalities
        everything = all(has(self._store, ids, m).all() for m in known)
        if not everything and to == OTHERS:
            return None
        names = [m for m in known if everything or m in (query, to)]
        key = hashlib.sha256(at.tobytes()).digest(), "+".join(names)
        if key not in self._known:
            vectors = {name: self._store.vectors.of(ids, name)[0] for name in names}
            self._known[key] = shared_ranks(vectors)
        return self._known[key][query, to]
