"""Encoders captured as CUDA graphs give the outputs and gradients of the encoders themselves."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from sleepfm.contract import BODY
from sleepfm.encoders.networks import initialise
from sleepfm.training.batches import Batch
from sleepfm.training.modality_encoders import ModalityEncoders
from sleepfm.training.recipe import SHORT
from sleepfm.training.task import Run

ABSENT = 3


def _batch(device: str) -> Batch:
    draw = torch.Generator().manual_seed(0)
    signals = {
        m: torch.randn(8, len(BODY.slots_of(m)), 640, generator=draw).to(device)
        for m in BODY.modalities
    }
    present = torch.ones(len(BODY.modalities), 8, dtype=torch.bool, device=device)
    present[0, ABSENT:] = False
    return Batch(signals, present, torch.zeros(8, dtype=torch.int64, device=device))


def test_a_clip_without_a_modality_has_a_zero_output_and_no_part_in_the_batch_norms() -> None:
    networks = initialise(BODY, BODY.modalities, 0, dropout=0.0)
    encoders = ModalityEncoders(copy.deepcopy(networks)).train()
    batch = _batch("cpu")
    first, *others = encoders.outputs(batch)
    alone = networks["bas"].train()(batch.signals["bas"][:ABSENT])
    torch.testing.assert_close(first[:ABSENT], alone)
    assert not first[ABSENT:].any()
    assert all(bool((x != 0).any(dim=1).all()) for x in others)


@pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS:UserWarning")  # once, by torch
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_graphs_equal_the_networks_they_were_captured_from() -> None:
    recipe = replace(SHORT, batch_size=8, crop_s=10.0)
    plain = ModalityEncoders(initialise(BODY, BODY.modalities, 0, dropout=0.0)).cuda().train()
    graphs = copy.deepcopy(plain)
    graphs.capture(BODY, recipe, Run(torch.device("cuda"), torch.float32))
    before = {k: v.clone() for k, v in graphs.state_dict().items()}
    assert all(torch.equal(v, before[k]) for k, v in plain.state_dict().items())
    batch = replace(_batch("cuda"), present=None)
    for encoders in (plain, graphs):
        torch.stack(encoders.outputs(batch)).square().sum().backward()
    for a, b in zip(plain.parameters(), graphs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-2, atol=1e-3)
