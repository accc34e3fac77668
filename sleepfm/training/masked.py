"""Masked reconstruction: hide seconds of a clip, and read their spectra off the vector.

The encoders average over time, so what can be asked for is not the samples that are hidden but
their log power in bands: the spectrum of what is not seen must follow from what is (a spectral form
of He et al. 2022, arXiv 2111.06377).
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
"""Length of a masked unit, in seconds."""

_BANDS: Final = 12
_HIDDEN: Final = 0.5


def draw_hidden(clips: int, samples: int, rate: int, draw: np.random.Generator) -> Tensor:
    """Draw which blocks of each clip are hidden: bool [clips, blocks], half of each.

    Parameters
    ----------
    clips, samples : int
        Number of clips, and samples in each.
    rate : int
        Samples per second.
    draw : numpy.random.Generator
    """
    blocks = samples // (BLOCK_S * rate)
    order = draw.random((clips, blocks)).argsort(axis=1)
    return torch.from_numpy(order < round(_HIDDEN * blocks))


class SpectrumReaders(nn.Module):
    """One linear head per modality, from 512 outputs to the log power of its slots in bands.

    Parameters
    ----------
    contract : Contract
        Gives slots and rate.
    modalities : sequence of str
        Those that there are heads for.
    """

    def __init__(self, contract: Contract, modalities: Sequence[str]) -> None:
        super().__init__()
        self.rate = contract.sample_rate
        heads = {m: len(contract.slots_of(m)) * _BANDS for m in modalities}
        self.heads = nn.ModuleDict({str(m): nn.Linear(EMBEDDING_DIM, n) for m, n in heads.items()})

    def hide(self, batch: Batch) -> Batch:
        """Return the batch with its hidden blocks at zero.

        Parameters
        ----------
        batch : Batch
            With ``hidden`` set.
        """
        assert batch.hidden is not None
        shown = (~batch.hidden).repeat_interleave(BLOCK_S * self.rate, dim=1).unsqueeze(1)
        signals = {}
        for modality, x in batch.signals.items():
            rest = x.shape[-1] - shown.shape[-1]
            signals[modality] = x * nn.functional.pad(shown, (0, rest), value=True)
        return replace(batch, signals=signals)

    def loss(self, modality: str, outputs: Tensor, signals: Tensor, hidden: Tensor) -> Tensor:
        """Mean squared error of the log powers, each in its own SD over the batch.

        Parameters
        ----------
        modality : str
            Whose outputs.
        outputs : Tensor, shape [n, 512]
            Of the clips with their hidden blocks at zero.
        signals : Tensor, shape [n, slots, samples]
            The whole clips.
        hidden : Tensor of bool, shape [n, blocks]
            What was hidden.
        """
        power = self._powers(signals.float(), hidden)
        there = (power > 0).all(dim=2, keepdim=True)
        logs = power.clamp(min=1e-12).log()
        count = there.sum(dim=0).clamp(min=1)
        mean = (logs * there).sum(dim=0) / count
        spread = (((logs - mean) * there).square().sum(dim=0) / count).sqrt().clamp(min=1e-3)
        wanted = (logs - mean) / spread
        guess = self.heads[str(modality)](outputs).view_as(wanted)
        error: Tensor = ((guess - wanted).square() * there).sum()
        return error / (there.sum() * _BANDS).clamp(min=1)

    def _powers(self, signals: Tensor, hidden: Tensor) -> Tensor:
        """Mean power in each band over the hidden blocks: [n, slots, bands]."""
        size = BLOCK_S * self.rate
        n, slots = signals.shape[:2]
        pieces = signals[..., : hidden.shape[1] * size].reshape(n, slots, -1, size)
        window = torch.hann_window(size, device=signals.device)
        pieces = (pieces - pieces.mean(dim=3, keepdim=True)) * window
        power = torch.fft.rfft(pieces).abs().square()
        shown = hidden[:, None, :, None].to(power)
        power = (power * shown).sum(dim=2) / shown.sum(dim=2).clamp(min=1)
        edges = np.unique(np.geomspace(1, size // 2, _BANDS + 1).round().astype(int))
        edges = np.pad(edges, (0, _BANDS + 1 - len(edges)), mode="edge")
        bands = [power[..., a : max(b, a + 1)].mean(dim=2) for a, b in pairwise(edges)]
        return torch.stack(bands, dim=2)
