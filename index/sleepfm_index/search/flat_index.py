"""Exhaustive search of a target by FAISS, with candidates certain to include the nearest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.search.exact import CLOSE
from sleepfm_index.search.mapped_vectors import MappedVectors
from sleepfm_index.search.parameters import Parameters
from sleepfm_index.search.protocol import Trial
from sleepfm_index.storage.vector_format import Stored
from sleepfm_index.storage.vectors import Vectors

MAX_ROUNDING: Final = 2.0**-10
"""Upper bound of the error of a mean of unit vectors when it is rounded to float16."""
_SPARE: Final = 22
"""Additional rows per scan, so that one scan usually covers the float32 error."""
_MAX_CLOSE: Final = 1 << 14
"""Maximum number of nearly equal scores; beyond it, all clips are compared in float64."""
_ROW_COST: Final = 8
"""Cost of comparing one vector, in codes read (protocol.Trial)."""

Runs = NDArray[np.int64]
"""First and last clip id of runs of consecutive ids, int64 [r, 2]; the runs are disjoint."""


@dataclass(frozen=True)
class FlatIndex:
    """Open vectors of one target, an :class:`~.protocol.ExhaustiveIndex`; it has no parameters.

    Parameters
    ----------
    target : str
        Search target: a modality, or ``others_of_<modality>``.
    runs : ndarray of int64, shape [r, 2]
        Clip ids of the index as runs, in the order of the file.
    means : ndarray of float16, shape [rows, 512], optional
        The vectors of ``others``; the vectors of a modality are in the segments.
    rounding : float
        Largest rounding error of a mean.
    vectors : Vectors, optional
        The vectors of the store; without them the index of a modality cannot be searched.
    """

    target: str
    runs: Runs
    means: Stored | None
    rounding: float
    vectors: Vectors | None

    complete = True
    trained = None

    @cached_property
    def rows(self) -> int:
        """Number of clips in the index."""
        return int((self.runs[:, 1] - self.runs[:, 0] + 1).sum())

    def ids(self) -> NDArray[np.int64]:
        """Clip ids of all rows, in the order of the file."""
        spans = [np.arange(first, last + 1) for first, last in self.runs.tolist()]
        return np.concatenate([*spans, np.empty(0, np.int64)]).astype(np.int64)

    @cached_property
    def mapped(self) -> MappedVectors:
        """FAISS index over the mapped vectors, without a copy."""
        return MappedVectors.over(self._parts())

    def _parts(self) -> Iterator[tuple[NDArray[np.int64], Stored]]:
        if self.means is not None:
            yield self.ids(), self.means
            return
        if self.vectors is None:
            raise ValueError(f"the index of {self.target} was opened without vectors")
        try:
            yield from self.vectors.stored(self.ids(), self.target)
        except (QueryError, FormatError) as error:
            raise FormatError(
                f"the index of {self.target} is damaged: {error}; "
                "run `sleepfm-index verify --repair`"
            ) from None

    def candidates(
        self, query: NDArray[np.float32], k: int, selector: Any | None = None
    ) -> NDArray[np.int64] | None:
        """Return candidates with the nearest ``k``; see :class:`~.protocol.ExhaustiveIndex`.

        Parameters
        ----------
        query : ndarray of float32, shape [512]
            The query vector.
        k : int
            Number of clips to find.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.
        """
        wide = min(k + _SPARE, self.rows)
        ids, scores = self.mapped.search(query, wide, selector)
        if wide < self.rows and ids[-1] >= 0:
            length = float(np.linalg.norm(query.astype(np.float64)))
            least = float(scores[k - 1]) - (CLOSE + 2 * self.rounding) * length
            if not scores[-1] < least:  # also true if a damaged vector gives NaN
                ids = self.mapped.above(query, least - CLOSE * length, selector)
                if not k <= len(ids) <= max(_MAX_CLOSE, 4 * k):
                    return None
        return ids[ids >= 0]

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        parameters: Parameters,
        selector: Any | None = None,
    ) -> NDArray[np.int64]:
        """Return the clips that score highest in float32; see :class:`~.protocol.VectorIndex`.

        Parameters
        ----------
        queries : ndarray of float32, shape [q, 512]
            Query vectors.
        k : int
            Number of clips to find per query.
        parameters : mapping of str to int
            Not used.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.

        Returns
        -------
        ndarray of int64, shape [q, k]
        """
        del parameters
        results = np.full((len(queries), k), -1, np.int64)
        count = min(k, self.rows)
        for row, query in zip(results, queries, strict=True):
            row[:count] = self.mapped.search(query, count, selector)[0]
        return results

    def trials(self, at_least: Parameters | None = None) -> Iterator[Trial]:
        """Yield the only trial.

        Parameters
        ----------
        at_least : mapping of str to int, optional
            Not used.
        """
        del at_least
        yield Trial({}, _ROW_COST * self.rows)

    def scaled(self, parameters: Parameters, factor: float) -> Parameters:
        """Return the parameters unchanged.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        factor : float
            Not used.
        """
        del factor
        return parameters

    def wider(self, parameters: Parameters) -> Parameters | None:
        """Return None: all clips are compared.

        Parameters
        ----------
        parameters : mapping of str to int
            Not used.
        """
        del parameters
        return None
