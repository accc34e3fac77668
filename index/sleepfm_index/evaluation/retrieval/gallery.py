"""The gallery of a retrieval measurement: which clips are compared with which."""

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
        Draw this many clips at random; by default all.
    seed : int
        Seed of the first draw; the next take the seeds after it.
    draws : int
        How often a gallery is drawn; the queries of all draws are pooled.
    among : {"all", "cross-recording", "within-recording"}
        Whether a query's rivals are all clips of the gallery, those of other recordings, or those
        of its own. Beside them stands its true answer.
    include_seen : bool
        Keep people whom the weights have seen in training.
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
        """Draw from the rows that have both sides; one draw where all of them fit.

        Parameters
        ----------
        rows : ndarray of int64, shape [n]
            Rows of the clips that have both query and target.
        """
        if self.size is None or self.size >= len(rows):
            return [rows]
        # One generator a direction: a draw does not depend on the directions before it.
        return [
            rows[np.sort(np.random.default_rng(s).choice(len(rows), self.size, replace=False))]
            for s in range(self.seed, self.seed + self.draws)
        ]
