"""The layers of the encoder, their sizes, and the tensors of its state dict, without torch."""

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
"""Stages followed by max pooling over 3 samples."""
EARLY: Final = 4
"""Last stage that stays in float32 when the rest runs in half precision."""


def blocks(stage: int) -> list[int]:
    """List the numbers of a stage's blocks in the published state dict.

    Parameters
    ----------
    stage : int
        2 to 8.

    Returns
    -------
    list of int
        In order; the last block halves the time axis.
    """
    depth = DEPTHS[stage - STAGES.start]
    return [*range(depth - 1), depth + 1]


@cache
def tensor_shapes(channels: int) -> dict[str, tuple[int, ...]]:
    """List the keys and shapes of an encoder's state dict.

    Parameters
    ----------
    channels : int
        Input channels: the modality's slots.

    Returns
    -------
    dict of str to tuple of int
        Shape of each tensor.
    """
    return dict(_shapes(channels))


def _shapes(channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _convolution("stage1", STEM, channels, 3)
    yield from _norm("b0", STEM)
    width_in = STEM
    for stage, width_out in zip(STAGES, WIDTHS, strict=True):
        expanded = width_in * EXPANSION
        for block in blocks(stage):
            prefix = f"stage{stage}.stack.s{block}"
            yield from _convolution(f"{prefix}.conv1", expanded, width_in, 1)
            yield from _norm(f"{prefix}.b0", expanded)
            yield from _convolution(f"{prefix}.conv2", expanded, 1, 3)
            yield from _norm(f"{prefix}.b1", expanded)
            yield from _convolution(
                f"{prefix}.conv3",
                width_out if block == blocks(stage)[-1] else width_in,
                expanded,
                1,
            )
        yield from _norm(f"stage{stage}.bn", width_out)
        width_in = width_out
    yield from _convolution("stage9", HEAD, width_in, 1)
    yield "fc.weight", (EMBEDDING_DIM, HEAD)
    yield "fc.bias", (EMBEDDING_DIM,)


def _convolution(
    name: str, width_out: int, width_in: int, width: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width_out, width_in, width)
    yield f"{name}.bias", (width_out,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
    yield f"{name}.num_batches_tracked", ()
