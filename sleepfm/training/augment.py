"""Other sensors for the same body: what a step changes in a batch so that no recorder is learned.

Drawn from seed, epoch and step alone, so that a resumed run sees the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sleepfm.contract import Contract
from sleepfm.training.batches import Batch
from sleepfm.training.masked import draw_hidden
from sleepfm.training.physiology import rates_only
from sleepfm.training.recipe import Recipe

_GAIN_SD: Final = 0.3
_NOISE_SD: Final = 0.1
_OTHER_LEAD: Final = 0.15
_HEART_FIELD: Final = (0.02, 0.6)
"""Lowest and highest amplitude of an added heart field, in parts of the scaled ECG."""
# The probability that a channel comes with the other sign: belts and flows are plugged in either
# way, ECG leads and EEG references rarely, a pulse seldom, a saturation never.
_FLIPPED: Final[Mapping[str, float]] = {"CHEST": 0.5, "ABD": 0.5, "FLOW": 0.5, "ECG": 0.25}
_FLIPPED_PULSE: Final = 0.1
_FLIPPED_EEG: Final = 0.3


def augment(batch: Batch, contract: Contract, recipe: Recipe, epoch: int, step: int) -> Batch:
    """Vary the channels of a batch as the recipe asks; the batch itself stays as it is.

    Parameters
    ----------
    batch : Batch
        Clips, on any device.
    contract : Contract
        Names the slots.
    recipe : Recipe
        ``vary`` for gain (log-normal), polarity, other leads and noise; ``slot_dropout`` for slots
        taken away; ``masked`` for what is hidden; ``heart_field`` for the ECG added to the EEG;
        ``rates_epochs`` for the targets of the first epochs.
    epoch, step : int
        What the draw depends on, besides the recipe's seed.
    """
    draw = np.random.default_rng((recipe.seed, epoch, step, 1))
    if recipe.masked:
        first = next(iter(batch.signals.values()))
        hidden = draw_hidden(len(first), first.shape[-1], contract.sample_rate, draw)
        batch = replace(batch, hidden=hidden.to(first.device))
    if epoch < recipe.rates_epochs and batch.targets is not None:
        batch = replace(batch, targets=rates_only(batch.targets))
    if not (recipe.vary or recipe.slot_dropout or recipe.heart_field):
        return batch
    inputs = batch.signals
    if recipe.heart_field and {"bas", "ecg"} <= inputs.keys():
        # A generator of its own, so that the other variations are the same with and without it.
        own = np.random.default_rng((recipe.seed, epoch, step, 2))
        inputs = {**inputs, "bas": _with_heart(inputs["bas"], inputs["ecg"], recipe, epoch, own)}
    signals = {}
    for modality, x in inputs.items():
        slots = contract.slots_of(modality)
        filled = (x != 0).flatten(2).any(dim=2)
        if recipe.vary:
            x = _varied(x, modality, slots, draw)
        signals[modality] = _thinned(x, filled, recipe.slot_dropout, draw)
    return replace(batch, signals=signals)


def _with_heart(
    x: Tensor, ecg: Tensor, recipe: Recipe, epoch: int, draw: np.random.Generator
) -> Tensor:
    """Add a clip's ECG to its EEG, with an amplitude per clip and a sign per channel.

    A network trained from scratch does not find a heart field of a tenth of the EEG's amplitude;
    one that has seen stronger fields goes on to weaker ones.
    """
    n, count = x.shape[:2]
    amplitude = np.exp(draw.uniform(math.log(_HEART_FIELD[0]), math.log(_HEART_FIELD[1]), (n, 1)))
    amplitude = amplitude * (draw.random((n, 1)) < recipe.heart_field)
    if epoch == 0 and recipe.rates_epochs:
        amplitude = np.full((n, 1), _HEART_FIELD[1])
    amplitude = amplitude * np.exp(_GAIN_SD * draw.standard_normal((n, count)))
    amplitude *= np.where(draw.random((n, count)) < 0.5, -1, 1)
    filled = (x != 0).flatten(2).any(dim=2).unsqueeze(2)
    return x + filled * torch.from_numpy(amplitude).to(x).unsqueeze(2) * ecg[:, :1]


def _varied(x: Tensor, modality: str, slots: tuple[str, ...], draw: np.random.Generator) -> Tensor:
    n, count = x.shape[:2]
    gain = np.exp(_GAIN_SD * draw.standard_normal((n, count)))
    if modality == "bas":
        gain *= np.where(draw.random((n, 1)) < _FLIPPED_EEG, -1, 1)
    else:
        chance = [_FLIPPED_PULSE if s == "PULSE" else _FLIPPED.get(s, 0.0) for s in slots]
        gain *= np.where(draw.random((n, count)) < chance, -1, 1)
    seed = int(draw.integers(2**62))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    level = _NOISE_SD * np.abs(draw.standard_normal((n, count))) * (draw.random((n, count)) < 0.5)
    if modality == "bas" and count > 1:
        # a bipolar lead in the slot of a referential one
        clip, slot = np.nonzero(draw.random((n, count)) < _OTHER_LEAD)
        other = (slot + draw.integers(1, count, len(slot))) % count
        x = x.clone()
        x[clip, slot] = x[clip, slot] - x[clip, other]
    there = (x != 0).flatten(2).any(dim=2).unsqueeze(2)
    x = x * torch.from_numpy(gain).to(x).unsqueeze(2)
    return x + there * torch.from_numpy(level).to(x).unsqueeze(2) * noise


def _thinned(x: Tensor, filled: Tensor, share: float, draw: np.random.Generator) -> Tensor:
    """Drop slots, but never the last one with a signal."""
    n, count = x.shape[:2]
    if not share or count == 1:
        return x
    thin = draw.random((n, 1)) < share
    keep = ~(thin & (draw.random((n, count)) < 0.5))
    there = filled.cpu().numpy()
    lost = ~(keep & there).any(axis=1)
    keep[lost] = there[lost] & (draw.random((int(lost.sum()), count)) < 0.5)
    lost = ~(keep & there).any(axis=1)
    keep[lost] = there[lost]
    return x * torch.from_numpy(keep).to(x).unsqueeze(2)
