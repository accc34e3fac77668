"""Objectives without negatives: what two modalities share should be the same, and not redundant.

Both work on the encoders' outputs before they are normalised, for every pair of modalities.
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
_LEAST: Final = 2


def barlow(outputs: Sequence[Tensor], present: Tensor | None = None) -> Tensor:
    """Barlow Twins across modalities (Zbontar et al. 2021, arXiv 2103.03230, equation 1).

    Parameters
    ----------
    outputs : sequence of Tensor, shape [n, d]
        One tensor per modality; row ``i`` of all belongs to clip ``i``.
    present : Tensor of bool, shape [modalities, n], optional
        Which clips have which modality.

    Returns
    -------
    Tensor, scalar
        Mean over the pairs: cross-correlation between the two, over the batch, against the
        identity; divided by d, which keeps it near 1 at the start.
    """
    return _over_pairs(_barlow, outputs, present)


def vicreg(outputs: Sequence[Tensor], present: Tensor | None = None) -> Tensor:
    """VICReg across modalities (Bardes et al. 2022, arXiv 2105.04906), weights 25, 25 and 1.

    Parameters
    ----------
    outputs, present
        As for :func:`barlow`.

    Returns
    -------
    Tensor, scalar
        Mean over the pairs.
    """
    return _over_pairs(_vicreg, outputs, present)


def covariance(outputs: Tensor) -> Tensor:
    """Return the covariance term of VICReg: squared covariances between dimensions, sum over d.

    Parameters
    ----------
    outputs : Tensor, shape [n, d]
        Of one modality, at least two rows.
    """
    n, d = outputs.shape
    centred = outputs - outputs.mean(dim=0)
    squared = (centred.T @ centred / (n - 1)).square()
    return (squared.sum() - squared.diagonal().sum()) / d


def _over_pairs(measure, outputs: Sequence[Tensor], present: Tensor | None) -> Tensor:  # type: ignore[no-untyped-def]
    found = []
    for i, j in combinations(range(len(outputs)), 2):
        a, b = outputs[i], outputs[j]
        if present is not None:
            both = present[i] & present[j]
            a, b = a[both], b[both]
        if len(a) >= _LEAST:
            found.append(measure(a, b))
    if not found:
        raise ValueError("no two clips have the same two modalities")
    return torch.stack(found).mean()


def _barlow(a: Tensor, b: Tensor) -> Tensor:
    n, d = a.shape
    a, b = ((x - x.mean(0)) / (x.std(0, correction=0) + 1e-5) for x in (a, b))
    squared = (a.T @ b / n - torch.eye(d, dtype=a.dtype, device=a.device)).square()
    own = squared.diagonal().sum()
    return (own + _OFF_DIAGONAL * (squared.sum() - own)) / d


def _vicreg(a: Tensor, b: Tensor) -> Tensor:
    spread = sum(F.relu(1 - (x.var(0) + 1e-4).sqrt()).mean() for x in (a, b)) / 2
    return (
        _INVARIANCE * F.mse_loss(a, b)
        + _VARIANCE * spread
        + _COVARIANCE * (covariance(a) + covariance(b))
    )
