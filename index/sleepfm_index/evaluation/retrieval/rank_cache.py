"""Cache of the ranks of clips, which are computed for all directions at once."""

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
    """Ranks of given clips, computed for all directions at the first request.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    """

    def __init__(self, store: Reader, clip_ids: NDArray[np.int64]) -> None:
        self._store = store
        self._clip_ids = clip_ids
        self._known: dict[tuple[bytes, str], dict[tuple[str, str], _Ranks]] = {}

    def of(self, query: str, to: str, rows: NDArray[np.int64]) -> _Ranks | None:
        """Ranks and hits of one direction; None if it shares no scores with other directions.

        Parameters
        ----------
        query, to : str
            Query and target of the direction.
        rows : ndarray of int64, shape [m]
            Rows of the clips in ``clip_ids``.
        """
        if "+" in query:
            return None
        ids = self._clip_ids[rows]
        known = self._store.manifest.modalities
        everything = all(has(self._store, ids, m).all() for m in known)
        if not everything and to == OTHERS:
            return None
        names = [m for m in known if everything or m in (query, to)]
        key = hashlib.sha256(rows.tobytes()).digest(), "+".join(names)
        if key not in self._known:
            vectors = {name: self._store.vectors.of(ids, name)[0] for name in names}
            self._known[key] = shared_ranks(vectors)
        return self._known[key][query, to]
