"""Validation metrics: retrieval over a whole gallery, and classification."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 1024


def gallery_metrics(
    vectors: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> dict[str, dict[str, float]]:
    """Return recall@1, recall@10 and median rank for each ordered pair and each modality to others.

    Parameters
    ----------
    vectors : mapping of str to Tensor, shape [n, d]
        Unit vectors of the gallery.
    present : mapping of str to Tensor of bool, shape [n]
        Which clips have the modality; a gallery holds those that have both sides.

    Returns
    -------
    dict
        Keys such as ``ecg->bas`` and ``resp->others``.
    """
    found = {}
    for a, b in permutations(vectors, 2):
        both = present[a] & present[b]
        found[f"{a}->{b}"] = _summary(vectors[a][both], vectors[b][both])
    for a in vectors:
        others = [m for m in vectors if m != a]
        if len(others) > 1:
            weight = torch.stack([present[m] for m in others]).to(vectors[a].dtype).unsqueeze(2)
            count = weight.sum(0)
            both = present[a] & (count[:, 0] > 0)
            mean = (torch.stack([vectors[m] for m in others]) * weight).sum(0) / count.clamp(min=1)
            found[f"{a}->others"] = _summary(vectors[a][both], mean[both])
    return found


def ranks(queries: Tensor, targets: Tensor) -> Tensor:
    """Rank of each query's own target: how many targets score at least as high, itself included.

    Parameters
    ----------
    queries, targets : Tensor of float, shape [n, dim]
        Unit vectors; row i of ``targets`` belongs to row i of ``queries``.
    """
    out = []
    for start in range(0, len(queries), _BLOCK):
        scores = queries[start : start + _BLOCK] @ targets.T
        rows = torch.arange(len(scores), device=scores.device)
        true = scores[rows, start + rows]
        out.append((scores >= true[:, None]).sum(1))
    return torch.cat(out) if out else torch.zeros(0, dtype=torch.int64)


def class_metrics(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, float | None]:
    """Return accuracy, balanced accuracy, macro AUROC and macro AUPRC.

    Parameters
    ----------
    probabilities : ndarray of float32, shape [n, classes]
        Of each class.
    labels : ndarray of int64, shape [n]
        The true ones.

    Returns
    -------
    dict
        Means over the classes that occur, one against the rest. AUROC is the Mann-Whitney statistic
        (ties count half), AUPRC the average precision; None where only one class occurs.
    """
    guessed = probabilities.argmax(axis=1)
    present = [int(k) for k in np.unique(labels)]
    recalls = [float(np.mean(guessed[labels == k] == k)) for k in present]
    areas = [_areas(probabilities[:, k], labels == k) for k in present if len(present) > 1]
    return {
        "accuracy": float(np.mean(guessed == labels)),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "auroc": float(np.mean([roc for roc, _ in areas])) if areas else None,
        "auprc": float(np.mean([prc for _, prc in areas])) if areas else None,
    }


def _areas(scores: NDArray[np.float32], true: NDArray[np.bool_]) -> tuple[float, float]:
    """AUROC and average precision; equal scores are one threshold."""
    values, place = np.unique(-scores, return_inverse=True)
    hits = np.bincount(place[true], minlength=len(values)).astype(np.float64)
    misses = np.bincount(place[~true], minlength=len(values)).astype(np.float64)
    found, wrong = hits.cumsum(), misses.cumsum()
    below = wrong[-1] - wrong + misses / 2
    roc = float((hits * below).sum() / (found[-1] * wrong[-1]))
    return roc, float((hits * found / (found + wrong)).sum() / found[-1])


def _summary(queries: Tensor, targets: Tensor) -> dict[str, float]:
    if not len(queries):
        return {"gallery": 0}
    rank = ranks(queries, targets).double()
    return {
        "recall_at_1": float((rank <= 1).double().mean()),
        "recall_at_10": float((rank <= 10).double().mean()),
        "median_rank": float(rank.quantile(0.5)),
        "gallery": len(queries),
    }
