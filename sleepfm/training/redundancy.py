"""Objectives without negatives: Barlow Twins and VICReg across modalities.

Both make the outputs of two modalities agree and their dimensions non-redundant. They act on the
encoder outputs before normalisation, for every pair of modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

_OFF_DIAGONAL: Final = 0.005
_INVARIANCE, _VARIANCE, _COVARIANCE = 25.0, 25.0, 1.0
_MIN_CLIPS: Final = 2


def barlow(outputs: Sequence[Tensor], present: Tensor | None = None) -> Tensor:
    """Return the Barlow Twins loss across modalities (Zbontar et al. 2021, arXiv 2103.03230).

    Parameters
    ----------
    outputs : sequence of Tensor, shape [n, d]
        Encoder outputs, one tensor per modality; row ``i`` of each belongs to clip ``i``.
    present : Tensor of bool, shape [modalities, n], optional
        Whether each clip has each modality; by default all do.

    Returns
    -------
    Tensor, scalar
        Mean over the pairs of the squared difference between their cross-correlation matrix and the
        identity, off-diagonal elements weighted by 0.005, divided by d (near 1 at the start).
    """
    return _over_pairs(_barlow, outputs, present)


def vicreg(outputs: Sequence[Tensor], present: Tensor | None = None) -> Tensor:
    """Return the VICReg loss across modalities (Bardes et al. 2022, arXiv 2105.04906).

    The weights of invariance, variance and covariance are 25, 25 and 1.

    Parameters
    ----------
    outputs, present
        As for :func:`barlow`.

    Returns
    -------
    Tensor, scalar
        Mean over the pairs of modalities.
    """
    return _over_pairs(_vicreg, outputs, present)


def covariance(outputs: Tensor) -> Tensor:
    """Return the covariance term of VICReg: the sum of squared off-diagonal covariances over d.

    Parameters
    ----------
    outputs : Tensor, shape [n, d]
        Encoder outputs of one modality, at least two rows.

    Returns
    -------
    Tensor, scalar
        The term.
    """
    n, d = outputs.shape
    centred = outputs - outputs.mean(dim=0)
    squared = (centred.T @ centred / (n - 1)).square()
    return (squared.sum() - squared.diagonal().sum()) / d


def _over_pairs(pair_loss, outputs: Sequence[Tensor], present: Tensor | None) -> Tensor:  # type: ignore[no-untyped-def]
    losses = []
    for i, j in combinations(range(len(outputs)), 2):
        a, b = outputs[i], outputs[j]
        if present is not None:
            both = present[i] & present[j]
            a, b = a[both], b[both]
        if len(a) >= _MIN_CLIPS:
            losses.append(pair_loss(a, b))
    if not losses:
        raise ValueError("no two clips have the same two modalities")
    return torch.stack(losses).mean()


def _barlow(a: Tensor, b: Tensor) -> Tensor:
    n, d = a.shape
    a, b = ((x - x.mean(0)) / (x.std(0, correction=0) + 1e-5) for x in (a, b))
    squared = (a.T @ b / n - torch.eye(d, dtype=a.dtype, device=a.device)).square()
    diagonal = squared.diagonal().sum()
    return (diagonal + _OFF_DIAGONAL * (squared.sum() - diagonal)) / d


def _vicreg(a: Tensor, b: Tensor) -> Tensor:
    spread = sum(F.relu(1 - (x.var(0) + 1e-4).sqrt()).mean() for x in (a, b)) / 2
    return (
        _INVARIANCE * F.mse_loss(a, b)
        + _VARIANCE * spread
        + _COVARIANCE * (covariance(a) + covariance(b))
    )
