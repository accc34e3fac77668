"""Literal types of named options.

They are separate so that a command line can offer them without importing their implementations.
"""

from __future__ import annotations

from typing import Literal

BackendName = Literal["auto", "torch", "openvino"]
"""Runtime of the encoders; ``auto`` is the fastest verified one."""

Coding = Literal["yasa", "profusion", "rk", "ucddb", "dreams", "bdsp"]
"""Codings of integer sleep stages."""

Grid = Literal["scoring", "recording"]
"""Start of the clips: on the scorer's epochs if they share one offset, or of the recording."""

Objective = Literal["pairwise", "leave-one-out", "siglip", "barlow", "vicreg", "physiology"]
"""Pretraining objectives; ``physiology`` is not contrastive."""

Precision = Literal["auto", "float32", "bfloat16"]
"""Numeric precision of training."""

RecipeName = Literal["authors", "short", "warm-up", "body", "fine-tuning", "mixed"]
"""Named sets of training settings."""
