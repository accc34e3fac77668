"""Words that one chooses from, where a name of several is asked for.

They stand here so that a command line can offer them without loading what they choose.
"""

from __future__ import annotations

from typing import Literal

BackendName = Literal["auto", "torch", "openvino"]
"""What runs the encoders; ``auto`` is the fastest that is right."""

Coding = Literal["yasa", "profusion", "rk", "ucddb", "dreams", "bdsp"]
"""What integer sleep stages mean."""

Grid = Literal["scoring", "recording"]
"""Where clips begin: with the scorer's epochs where all share one offset, or with the recording."""

Objective = Literal["pairwise", "leave-one-out", "siglip", "barlow", "vicreg", "physiology"]
"""What pretraining learns: what is contrasted with what; ``physiology`` contrasts nothing."""

Precision = Literal["auto", "float32", "bfloat16"]
"""In which numbers networks are trained."""

RecipeName = Literal["authors", "short", "warm-up", "body", "fine-tuning"]
"""Settings of training to start from."""
