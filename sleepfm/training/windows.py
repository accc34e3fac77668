"""The window of each clip that a training step uses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from sleepfm.contract import Contract
from sleepfm.training.batches import Batch
from sleepfm.training.recipe import Recipe


def cut_windows(batch: Batch, contract: Contract, recipe: Recipe, epoch: int, step: int) -> Batch:
    """Cut the window of a step from whole clips, in each modality apart with ``jitter_s``.

    With a jitter of about a heart beat, the beats of a clip fall at other times in each modality,
    and modalities cannot be matched by those times. The sequence of intervals between beats, and
    with less jitter than a breath its phase, are still the same in all of them.

    Parameters
    ----------
    batch : Batch
        Whole clips, on any device; left unchanged.
    contract : Contract
        The contract by which clips are prepared.
    recipe : Recipe
        ``crop_s`` is the length of the window, ``jitter_s`` the greatest difference between its
        starts in two modalities of a clip.
    epoch, step : int
        Epoch and step within it, counted from 0; with the recipe's seed they fix the draw.

    Returns
    -------
    Batch
        Windows of the clips: views without jitter, copies with it.
    """
    if recipe.crop_s is None:
        return batch
    length, jitter = recipe.window_samples(contract), recipe.jitter_samples(contract)
    draw = np.random.default_rng((recipe.seed, epoch, step))
    start = int(draw.integers(contract.clip_samples - length - jitter + 1))
    if not jitter:
        return batch.window(start, start + length)
    apart = np.random.default_rng((recipe.seed, epoch, step, 3))
    signals = {}
    for modality, whole in batch.signals.items():
        starts = torch.from_numpy(start + apart.integers(jitter + 1, size=len(whole)))
        samples = starts.to(whole.device)[:, None] + torch.arange(length, device=whole.device)
        signals[modality] = whole.gather(2, samples[:, None].expand(-1, whole.shape[1], -1))
    return replace(batch, signals=signals)
