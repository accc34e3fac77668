"""The layers of the encoder and their sizes, and so what its state dict holds; no torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from sleepfm.modality import EMBEDDING_DIM

EXPANSION: Final = 6
STEM: Final = 32
WIDTHS: Final = (16, 24, 40, 80, 112, 192, 320)
DEPTHS: Final = (1, 2, 2, 3, 3, 3, 3)
HEAD: Final = 1280
STAGES: Final = range(2, 9)
POOLED: Final = (3, 6)
"""Stages that a max pool of 3 follows."""
EARLY: Final = 4
"""Last stage of the early part, which keeps float32 where the rest is run in half precision."""


def blocks(stage: int) -> list[int]:
    """Numbers that the published state dict gives a stage's blocks; the last halves the time."""
    depth = DEPTHS[stage - STAGES.start]
    return [*range(depth - 1), depth + 1]


@cache
def shapes(channels: int) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the state dict of an encoder with ``channels`` inputs."""
    return dict(_shapes(channels))


def _shapes(channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _convolution("stage1", STEM, channels, 3)
    yield from _norm("b0", STEM)
    inside = STEM
    for stage, outside in zip(STAGES, WIDTHS, strict=True):
        wide = inside * EXPANSION
        for block in blocks(stage):
            own = f"stage{stage}.stack.s{block}"
            yield from _convolution(f"{own}.conv1", wide, inside, 1)
            yield from _norm(f"{own}.b0", wide)
            yield from _convolution(f"{own}.conv2", wide, 1, 3)
            yield from _norm(f"{own}.b1", wide)
            yield from _convolution(
                f"{own}.conv3", outside if block == blocks(stage)[-1] else inside, wide, 1
            )
        yield from _norm(f"stage{stage}.bn", outside)
        inside = outside
    yield from _convolution("stage9", HEAD, inside, 1)
    yield "fc.weight", (EMBEDDING_DIM, HEAD)
    yield "fc.bias", (EMBEDDING_DIM,)


def _convolution(
    name: str, outside: int, inside: int, width: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outside, inside, width)
    yield f"{name}.bias", (outside,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
    yield f"{name}.num_batches_tracked", ()
