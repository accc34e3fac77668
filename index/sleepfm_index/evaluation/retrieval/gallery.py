"""The gallery of a retrieval measurement: the candidates of each query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.choices import Among
from sleepfm_index.errors import QueryError

GALLERIES: Final = get_args(Among)


@dataclass(frozen=True)
class Gallery:
    """Galleries and queries of retrieval.

    Parameters
    ----------
    where : str, optional
        SQL condition over the columns of ``clips``.
    size : int, optional
        Number of clips to draw at random; by default all.
    seed : int
        Random seed of the first draw; further draws use the following seeds.
    draws : int
        Number of galleries to draw; the queries of all draws are pooled.
    among : {"all", "cross-recording", "within-recording"}
        Candidates of a query: all clips of the gallery, those of other recordings, or those of its
        recording; in each case together with the true target.
    include_seen : bool
        Whether to keep subjects of the weights' training data.
    """

    where: str | None = None
    size: int | None = None
    seed: int = 0
    draws: int = 1
    among: str = "all"
    include_seen: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise QueryError(f"gallery size must be at least 1, got {self.size}")
        if self.draws < 1:
            raise QueryError(f"draws must be at least 1, got {self.draws}")
        if self.draws > 1 and self.size is None:
            raise QueryError("several draws need a gallery of fewer clips; pass --gallery N")
        if self.among not in GALLERIES:
            raise QueryError(f"no gallery {self.among!r}; choose from {', '.join(GALLERIES)}")

    def drawn(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Draw galleries from the rows with query and target; one draw if all rows fit.

        Parameters
        ----------
        rows : ndarray of int64, shape [n]
            Rows of the clips that have both query and target.
        """
        if self.size is None or self.size >= len(rows):
            return [rows]
        # A generator per direction, so that a draw does not depend on previous directions.
        return [
            rows[np.sort(np.random.default_rng(s).choice(len(rows), self.size, replace=False))]
            for s in range(self.seed, self.seed + self.draws)
        ]
