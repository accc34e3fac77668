"""Conversion between tensors in memory and networks of torch."""

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
    """Build the network of one modality from its tensors.

    Parameters
    ----------
    weights : Weights
        Tensors and contract.
    modality : str
        The encoder to build.
    dropout : float
        Dropout rate, for training.

    Returns
    -------
    EffNet
        In float32, on the CPU, in evaluation mode.
    """
    with torch.device("meta"):
        network = EffNet(len(weights.contract.slots_of(modality)), dropout)
    state = {}
    for key, values in weights.tensors[modality].items():
        dtype = values.dtype if key.endswith("num_batches_tracked") else np.float32
        state[key] = torch.from_numpy(np.array(values, dtype=dtype))
    network.load_state_dict(state, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network.eval()


def initialise(
    contract: Contract, modalities: Iterable[str], seed: int, dropout: float = DROPOUT
) -> dict[str, EffNet]:
    """Initialise networks at random; each depends on the seed and its modality alone.

    Parameters
    ----------
    contract : Contract
        Sets the number of input channels of each modality.
    modalities : iterable of str
        The encoders to initialise.
    seed : int
        Random seed.
    dropout : float
        Dropout rate.

    Returns
    -------
    dict of str to EffNet
        By modality; in float32, on the CPU, in training mode.
    """
    networks = {}
    with torch.random.fork_rng(devices=[]):
        for modality in modalities:
            torch.manual_seed(_seed(contract, modality, seed))
            networks[modality] = EffNet(len(contract.slots_of(modality)), dropout)
    return networks


def initial_tensors(
    contract: Contract, modalities: Iterable[str], seed: int
) -> dict[str, dict[str, NDArray[Any]]]:
    """Initialise state dicts whose untrained networks still distinguish clips.

    The default initialisation of torch shrinks a signal by the square root of three per layer.
    Batch norms compensate for this in training, but an untrained network gives nearly the same
    vector for every clip. Kernels are therefore drawn as in He et al. 2015 (arXiv 1502.01852),
    which keeps the variance, and biases are zero. The distribution is uniform rather than normal,
    so that the values do not depend on the machine.

    Parameters
    ----------
    contract : Contract
        Sets the number of input channels of each modality.
    modalities : iterable of str
        The encoders to initialise.
    seed : int
        Random seed.

    Returns
    -------
    dict of str to dict of str to ndarray
        A state dict for each modality.
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
    """Copy the state dict of a network into arrays.

    Parameters
    ----------
    network : EffNet
        On any device.

    Returns
    -------
    dict of str to ndarray
        Copies that do not share memory with the network.
    """
    return {k: v.detach().cpu().numpy().copy() for k, v in network.state_dict().items()}
