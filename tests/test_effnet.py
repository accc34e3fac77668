"""The encoder is the published one, layer for layer."""

import json
from pathlib import Path

import numpy as np
import parity
import pytest
import torch

from sleepfm.contract import ROBUST
from sleepfm.encoders.effnet import EffNet, fold_batch_norms
from sleepfm.encoders.layout import tensor_shapes
from sleepfm.encoders.networks import initialise

MODALITIES = list(ROBUST.modalities)


def _relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_keys_and_shapes_are_the_published_ones(modality: str, parity_dir: Path) -> None:
    spec = json.loads((parity_dir / "state_dict_spec.json").read_text())
    theirs = {
        k.removeprefix("module."): tuple(s) for k, s, _ in spec[parity.AUTHORS_NAMES[modality]]
    }
    assert tensor_shapes(parity.SLOTS[modality]) == theirs


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_output_is_the_authors_with_and_without_folding(
    modality: str, parity_dir: Path
) -> None:
    network = EffNet(parity.SLOTS[modality]).eval()
    state = parity.state_dict(parity_dir, modality)
    network.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    theirs = parity.expected(parity_dir, "embedding_raw", modality)
    clips = torch.from_numpy(parity.clips(modality))
    with torch.inference_mode():
        assert _relative(network(clips).numpy(), theirs) < 1e-4
        assert _relative(fold_batch_norms(network)(clips).numpy(), theirs) < 1e-4


def test_folding_leaves_the_network_itself_alone() -> None:
    network = EffNet(1).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    fold_batch_norms(network)
    after = network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_an_initialisation_depends_on_the_seed_and_the_modality_alone() -> None:
    state = torch.random.get_rng_state()
    one = initialise(ROBUST, MODALITIES, 3)["resp"].fc.weight
    torch.rand(7)
    alone = initialise(ROBUST, ["resp"], 3)["resp"].fc.weight
    other = initialise(ROBUST, ["resp"], 4)["resp"].fc.weight
    assert torch.equal(one, alone)
    assert not torch.equal(one, other)
    torch.random.set_rng_state(state)
