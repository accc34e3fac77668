"""Masked reconstruction: set blocks of a clip to zero and predict their spectra from the output.

The encoders average over time, so the target is not the masked samples but their log power in
frequency bands: the spectrum of the masked blocks is predicted from the visible ones (a spectral
form of He et al. 2022, arXiv 2111.06377).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from sleepfm.contract import Contract
from sleepfm.modality import EMBEDDING_DIM
from sleepfm.training.batches import Batch

BLOCK_S: Final = 2
"""Length of a masked block, in seconds."""

_BANDS: Final = 12
_HIDDEN: Final = 0.5


def draw_hidden(clips: int, samples: int, rate: int, draw: np.random.Generator) -> Tensor:
    """Draw the blocks to mask: half of the blocks of each clip.

    Parameters
    ----------
    clips, samples : int
        Number of clips, and samples in each.
    rate : int
        Samples per second.
    draw : numpy.random.Generator
        Source of random numbers.

    Returns
    -------
    Tensor of bool, shape [clips, blocks]
        True where a block is masked.
    """
    blocks = samples // (BLOCK_S * rate)
    order = draw.random((clips, blocks)).argsort(axis=1)
    return torch.from_numpy(order < round(_HIDDEN * blocks))


class SpectrumHeads(nn.Module):
    """Linear heads, one per modality, from 512 outputs to the log band powers of its slots.

    Parameters
    ----------
    contract : Contract
        Supplies the slots of each modality and the sample rate.
    modalities : sequence of str
        The modalities; each has one head.
    """

    def __init__(self, contract: Contract, modalities: Sequence[str]) -> None:
        super().__init__()
        self.rate = contract.sample_rate
        heads = {m: len(contract.slots_of(m)) * _BANDS for m in modalities}
        self.heads = nn.ModuleDict({str(m): nn.Linear(EMBEDDING_DIM, n) for m, n in heads.items()})

    def hide(self, batch: Batch) -> Batch:
        """Return the batch with its masked blocks set to zero.

        Parameters
        ----------
        batch : Batch
            Clips; ``hidden`` is the mask and must be set.

        Returns
        -------
        Batch
            The masked clips.
        """
        assert batch.hidden is not None
        visible = (~batch.hidden).repeat_interleave(BLOCK_S * self.rate, dim=1).unsqueeze(1)
        signals = {}
        for modality, values in batch.signals.items():
            remainder = values.shape[-1] - visible.shape[-1]
            signals[modality] = values * nn.functional.pad(visible, (0, remainder), value=True)
        return replace(batch, signals=signals)

    def loss(self, modality: str, outputs: Tensor, signals: Tensor, hidden: Tensor) -> Tensor:
        """Return the mean squared error of the log powers, standardised over the batch.

        Parameters
        ----------
        modality : str
            Modality of the outputs and signals.
        outputs : Tensor of float32, shape [n, 512]
            Encoder outputs for the masked clips.
        signals : Tensor, shape [n, slots, samples]
            Signals of the clips without the mask.
        hidden : Tensor of bool, shape [n, blocks]
            True where a block was masked.

        Returns
        -------
        Tensor, scalar
            Mean over the bands of all slots that have a signal.
        """
        power = self._powers(signals.float(), hidden)
        available = (power > 0).all(dim=2, keepdim=True)
        logs = power.clamp(min=1e-12).log()
        count = available.sum(dim=0).clamp(min=1)
        mean = (logs * available).sum(dim=0) / count
        spread = (((logs - mean) * available).square().sum(dim=0) / count).sqrt().clamp(min=1e-3)
        target = (logs - mean) / spread
        predicted = self.heads[str(modality)](outputs).view_as(target)
        error: Tensor = ((predicted - target).square() * available).sum()
        return error / (available.sum() * _BANDS).clamp(min=1)

    def _powers(self, signals: Tensor, hidden: Tensor) -> Tensor:
        """Return the mean power in each band over the masked blocks, shape [n, slots, bands]."""
        size = BLOCK_S * self.rate
        n, slots = signals.shape[:2]
        blocks = signals[..., : hidden.shape[1] * size].reshape(n, slots, -1, size)
        window = torch.hann_window(size, device=signals.device)
        blocks = (blocks - blocks.mean(dim=3, keepdim=True)) * window
        power = torch.fft.rfft(blocks).abs().square()
        weight = hidden[:, None, :, None].to(power)
        power = (power * weight).sum(dim=2) / weight.sum(dim=2).clamp(min=1)
        edges = np.unique(np.geomspace(1, size // 2, _BANDS + 1).round().astype(int))
        edges = np.pad(edges, (0, _BANDS + 1 - len(edges)), mode="edge")
        bands = [power[..., a : max(b, a + 1)].mean(dim=2) for a, b in pairwise(edges)]
        return torch.stack(bands, dim=2)
