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
        Number of the subject, >= 1. A subject's night depends on nothing but these two.
    """

    seed: int
    subject: int

    def __call__(self, name: str) -> np.random.Generator:
        """Give the generator of one named part, the same whenever it is asked for.

        Two names give independent streams (numpy ``SeedSequence`` with a spawn key), so no two
        channels of a night share random numbers unless they share a named piece of physiology.
        """
        key = (self.subject, zlib.crc32(name.encode()))
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
