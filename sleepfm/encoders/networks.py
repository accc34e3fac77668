"""Between tensors in memory and networks of torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sleepfm.contract import Contract
from sleepfm.encoders.effnet import DROPOUT, EffNet
from sleepfm.encoders.weights import Weights


def build(weights: Weights, modality: str, dropout: float = DROPOUT) -> EffNet:
    """Give the network of one modality, float32, on the CPU, in evaluation mode."""
    with torch.device("meta"):
        network = EffNet(len(weights.contract.slots_of(modality)), dropout)
    state = {}
    for key, values in weights.tensors[modality].items():
        kind = values.dtype if key.endswith("num_batches_tracked") else np.float32
        state[key] = torch.from_numpy(np.array(values, dtype=kind))
    network.load_state_dict(state, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network.eval()


def initialise(
    contract: Contract, modalities: Iterable[str], seed: int, dropout: float = DROPOUT
) -> dict[str, EffNet]:
    """Give randomly initialised networks; each depends on the seed and its modality alone."""
    networks = {}
    with torch.random.fork_rng(devices=[]):
        for modality in modalities:
            torch.manual_seed(_seed(contract, modality, seed))
            networks[modality] = EffNet(len(contract.slots_of(modality)), dropout)
    return networks


def initial_tensors(
    contract: Contract, modalities: Iterable[str], seed: int
) -> dict[str, dict[str, NDArray[Any]]]:
    """Give the state dicts of networks that were never trained, yet tell clips apart.

    torch's own initialisation shrinks a signal by the square root of three a layer; a network in
    training makes up for it by its batch norms, an untrained one gives the same vector for every
    clip. So kernels are drawn as in He et al. 2015 (arXiv 1502.01852), which keeps the variance,
    and biases are zero. Uniform and not normal, so that the values do not depend on the machine.
    """
    tensors = {}
    for modality, network in initialise(contract, modalities, seed).items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(contract, modality, seed))
            for layer in network.modules():
                if isinstance(layer, nn.Conv1d | nn.Linear):
                    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
        tensors[modality] = tensors_of(network)
    return tensors


def _seed(contract: Contract, modality: str, seed: int) -> int:
    return seed * len(contract.modalities) + contract.modalities.index(modality)


def tensors_of(network: EffNet) -> dict[str, NDArray[Any]]:
    """Give the state dict of a network as arrays in memory of their own."""
    return {k: v.detach().cpu().numpy().copy() for k, v in network.state_dict().items()}
