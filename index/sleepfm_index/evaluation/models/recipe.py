"""How a probe is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sleepfm_index.errors import QueryError

TRAIN_CLIPS: Final = 200_000


@dataclass(frozen=True)
class Recipe:
    """How a probe is learned.

    Parameters
    ----------
    model : str
        One of :data:`sleepfm_index.evaluation.models.probe_kinds.PROBES`.
    c : float
        Inverse strength of the L2 penalty, on coefficients or on the values of leaves.
    seed : int
        Seed of the folds and of the draw of clips.
    train_clips : int
        Learn from at most this many clips, drawn at random, which bounds memory: float32
        [train_clips, 512] for one modality, as many times that as are joined.
    """

    model: str = "linear"
    c: float = 1.0
    seed: int = 0
    train_clips: int = TRAIN_CLIPS

    def __post_init__(self) -> None:
        if not self.c > 0:
            raise QueryError(f"c must be above 0, got {self.c:g}")
        if self.train_clips < 2:
            raise QueryError(f"train_clips must be at least 2, got {self.train_clips}")
