"""Named random number streams: every part of a simulated night has its own generator."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Streams:
    """Random generators of one night of a subject.

    Parameters
    ----------
    seed : int
        Seed of the cohort, >= 0.
    subject : int
        Number of the subject, >= 1.
    night : int
        Number of the subject's night, >= 1. A night depends only on these three numbers.
    """

    seed: int
    subject: int
    night: int = 1

    @property
    def person(self) -> Streams:
        """Streams for properties of a person that do not vary between nights."""
        return Streams(self.seed, self.subject)

    def __call__(self, name: str) -> np.random.Generator:
        """Return a new generator for a name, always with the same sequence.

        Two names give independent streams (numpy ``SeedSequence`` with a spawn key), so two
        channels of a night share random numbers only if they share a named part of physiology.
        """
        key: tuple[int, ...] = (self.subject, zlib.crc32(name.encode()))
        if self.night > 1:
            key = (*key, self.night)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
