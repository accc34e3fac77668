"""Random numbers by name: every part of a simulated night draws from a generator of its own."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Streams:
    """The generators of one subject.

    Parameters
    ----------
    seed : int
        Seed of the cohort, >= 0.
    subject : int
        Number of the subject, >= 1.
    night : int
        Number of the subject's night, >= 1. A night depends on nothing but these three.
    """

    seed: int
    subject: int
    night: int = 1

    @property
    def person(self) -> Streams:
        """The streams of what a person keeps from night to night."""
        return Streams(self.seed, self.subject)

    def __call__(self, name: str) -> np.random.Generator:
        """Return the generator of one named part, the same whenever it is asked for.

        Two names give independent streams (numpy ``SeedSequence`` with a spawn key), so no two
        channels of a night share random numbers unless they share a named piece of physiology.
        """
        key: tuple[int, ...] = (self.subject, zlib.crc32(name.encode()))
        if self.night > 1:
            key = (*key, self.night)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
