"""Data augmentation: windows, sensors, lost channels, heart fields, masks, weights of targets.

Every draw depends on seed, epoch and step alone, so that a resumed run sees the same batches.
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
from sleepfm.training.physiology import GROUPS
from sleepfm.training.recipe import Recipe
from sleepfm.training.windows import cut_windows

_GAIN_SD: Final = 0.3
_NOISE_SD: Final = 0.1
_REREFERENCED: Final = 0.15
_HEART_FIELD: Final = (0.02, 0.6)
"""Lowest and highest amplitude of an added heart field, as a fraction of the ECG, before the gain
of each channel."""
_EEG_TARGETS: Final[tuple[Mapping[str, float], ...]] = (
    {"heart_rate": 1},
    {"heart_rate": 1, "stage": 4},
    {"heart_rate": 3, "stage": 4, "value": 1, "breathing_rate": 1},
)
"""Weights of the groups of targets of the EEG: in the first ``heart_epochs``, in as many more, and
from then on. At equal weights it learns either its stages or the heart rate."""
# The probability that a channel has inverted polarity: belts and flow sensors are plugged in either
# way, ECG leads and EEG references less often, a pulse wave rarely, an oxygen saturation never.
_FLIPPED: Final[Mapping[str, float]] = {"CHEST": 0.5, "ABD": 0.5, "FLOW": 0.5, "ECG": 0.25}
_FLIPPED_PULSE: Final = 0.1
_FLIPPED_EEG: Final = 0.3


def augment(
    batch: Batch, contract: Contract, recipe: Recipe, epoch: int, step: int, *, whole: bool = False
) -> Batch:
    """Augment a batch as set in the recipe; the batch passed in is left unchanged.

    Parameters
    ----------
    batch : Batch
        Whole clips, on any device.
    contract : Contract
        Defines the slots of each modality.
    recipe : Recipe
        ``crop_s`` and ``jitter_s`` set the window of each clip
        (:mod:`sleepfm.training.windows`); ``vary`` turns on variation of gain (log-normal),
        polarity, reference and noise;
        ``slot_dropout`` is the share of clips that lose slots; ``masked`` turns on the masks of
        masked reconstruction; ``heart_field`` is the share of clips whose ECG is added to the EEG;
        ``heart_epochs`` sets when the EEG regresses what; twice as many epochs go by before sensors
        vary and slots are dropped.
    epoch, step : int
        Epoch and step within it, counted from 0; with the recipe's seed they fix the draw.
    whole : bool
        Whether to keep whole clips instead of cutting windows.

    Returns
    -------
    Batch
        The augmented clips.
    """
    draw = np.random.default_rng((recipe.seed, epoch, step, 1))
    if recipe.heart_field and {"bas", "ecg"} <= batch.signals.keys():
        # Before the windows of the modalities are cut apart: a field beats with its own heart. A
        # generator of its own, so that the other variations are the same with and without it.
        field_draw = np.random.default_rng((recipe.seed, epoch, step, 2))
        bas = _add_heart_field(
            batch.signals["bas"], batch.signals["ecg"], recipe, epoch, field_draw
        )
        batch = replace(batch, signals={**batch.signals, "bas": bas})
    if not whole:
        batch = cut_windows(batch, contract, recipe, epoch, step)
    if recipe.masked:
        first = next(iter(batch.signals.values()))
        hidden = draw_hidden(len(first), first.shape[-1], contract.sample_rate, draw)
        batch = replace(batch, hidden=hidden.to(first.device))
    if batch.targets is not None:
        batch = replace(batch, target_weights={"bas": _eeg_target_weights(recipe, epoch)})
    as_recorded = epoch < 2 * recipe.heart_epochs
    vary, slot_dropout = recipe.vary and not as_recorded, recipe.slot_dropout * (not as_recorded)
    if not (vary or slot_dropout):
        return batch
    signals = {}
    for modality, values in batch.signals.items():
        slots = contract.slots_of(modality)
        filled = (values != 0).flatten(2).any(dim=2)
        if vary:
            values = _vary_sensors(values, modality, slots, draw)
        signals[modality] = _drop_slots(values, filled, slot_dropout, draw)
    return replace(batch, signals=signals)


def _eeg_target_weights(recipe: Recipe, epoch: int) -> tuple[float, ...]:
    phase = min(epoch // recipe.heart_epochs, 2) if recipe.heart_epochs else 2
    return tuple(_EEG_TARGETS[phase].get(group, 0.0) for group in GROUPS)


def _add_heart_field(
    signals: Tensor, ecg: Tensor, recipe: Recipe, epoch: int, draw: np.random.Generator
) -> Tensor:
    """Add the first ECG slot to the EEG: an amplitude per clip, a gain and a sign per channel.

    A network trained from scratch does not find a heart field of a tenth of the EEG's amplitude;
    one that has seen stronger fields goes on to weaker ones.
    """
    n, count = signals.shape[:2]
    amplitude = np.exp(draw.uniform(math.log(_HEART_FIELD[0]), math.log(_HEART_FIELD[1]), (n, 1)))
    amplitude = amplitude * (draw.random((n, 1)) < recipe.heart_field)
    if epoch == 0 and recipe.heart_epochs:
        amplitude = np.full((n, 1), _HEART_FIELD[1])
    amplitude = amplitude * np.exp(_GAIN_SD * draw.standard_normal((n, count)))
    amplitude *= np.where(draw.random((n, count)) < 0.5, -1, 1)
    recorded = (signals != 0).flatten(2).any(dim=2).unsqueeze(2)
    return signals + recorded * torch.from_numpy(amplitude).to(signals).unsqueeze(2) * ecg[:, :1]


def _vary_sensors(
    signals: Tensor, modality: str, slots: tuple[str, ...], draw: np.random.Generator
) -> Tensor:
    n, count = signals.shape[:2]
    gain = np.exp(_GAIN_SD * draw.standard_normal((n, count)))
    if modality == "bas":
        gain *= np.where(draw.random((n, 1)) < _FLIPPED_EEG, -1, 1)
    else:
        flip_probability = [_FLIPPED_PULSE if s == "PULSE" else _FLIPPED.get(s, 0.0) for s in slots]
        gain *= np.where(draw.random((n, count)) < flip_probability, -1, 1)
    seed = int(draw.integers(2**62))
    generator = torch.Generator(signals.device).manual_seed(seed)
    noise = torch.randn(signals.shape, generator=generator, device=signals.device).to(signals)
    level = _NOISE_SD * np.abs(draw.standard_normal((n, count))) * (draw.random((n, count)) < 0.5)
    if modality == "bas" and count > 1:
        # a bipolar derivation in the slot of a referential one
        clip, slot = np.nonzero(draw.random((n, count)) < _REREFERENCED)
        reference = (slot + draw.integers(1, count, len(slot))) % count
        signals = signals.clone()
        signals[clip, slot] = signals[clip, slot] - signals[clip, reference]
    recorded = (signals != 0).flatten(2).any(dim=2).unsqueeze(2)
    signals = signals * torch.from_numpy(gain).to(signals).unsqueeze(2)
    return signals + recorded * torch.from_numpy(level).to(signals).unsqueeze(2) * noise


def _drop_slots(signals: Tensor, filled: Tensor, share: float, draw: np.random.Generator) -> Tensor:
    """Set slots to zero, but keep at least one with a signal in each clip."""
    n, count = signals.shape[:2]
    if not share or count == 1:
        return signals
    reduced = draw.random((n, 1)) < share
    keep = ~(reduced & (draw.random((n, count)) < 0.5))
    has_signal = filled.cpu().numpy()
    emptied = ~(keep & has_signal).any(axis=1)
    keep[emptied] = has_signal[emptied] & (draw.random((int(emptied.sum()), count)) < 0.5)
    emptied = ~(keep & has_signal).any(axis=1)
    keep[emptied] = has_signal[emptied]
    return signals * torch.from_numpy(keep).to(signals).unsqueeze(2)
