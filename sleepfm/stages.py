"""Sleep stages, as stored."""

from __future__ import annotations

from typing import Final

SCORED: Final = ("W", "N1", "N2", "N3", "R")
"""Stages of the AASM manual."""

STAGES: Final = (*SCORED, "UNS", "ART")
"""All values of the column ``stage``: sleep stages, unscored and artefact."""
