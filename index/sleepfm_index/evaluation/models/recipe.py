"""Settings of a probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sleepfm_index.errors import QueryError

TRAIN_CLIPS: Final = 200_000
PENALTIES: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties to choose from if none is given."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a probe.

    Parameters
    ----------
    model : str
        One of :data:`sleepfm_index.evaluation.models.probe_kinds.PROBES`.
    c : float, optional
        Inverse strength of the L2 penalty, on coefficients or on the values of leaves; None chooses
        from :data:`PENALTIES` by cross-validation over the training subjects.
    seed : int
        Seed of the folds and of the draw of clips.
    train_clips : int
        Maximum number of training clips, drawn at random, which bounds memory: float32
        [train_clips, 512] per modality.
    standardise : bool
        Whether a linear model standardises the vectors by the training clips.
    iterations : int, optional
        Maximum number of iterations of a linear model; by default 1,000.
    """

    model: str = "linear"
    c: float | None = 1.0
    seed: int = 0
    train_clips: int = TRAIN_CLIPS
    standardise: bool = True
    iterations: int | None = None

    @classmethod
    def as_authors(cls, *, seed: int = 0, train_clips: int = TRAIN_CLIPS) -> Recipe:
        """Return the settings of the SleepFM code: no standardisation, C = 1, 100 iterations.

        Parameters
        ----------
        seed, train_clips : int
            As in :class:`Recipe`.
        """
        return cls(c=1.0, seed=seed, train_clips=train_clips, standardise=False, iterations=100)

    def __post_init__(self) -> None:
        if self.c is not None and not self.c > 0:
            raise QueryError(f"c must be above 0, got {self.c:g}")
        if self.train_clips < 2:
            raise QueryError(f"train_clips must be at least 2, got {self.train_clips}")
