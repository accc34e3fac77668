"""Validation metrics: retrieval from a gallery, and classification."""

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
    """Return recall@1, recall@10 and median rank between modalities.

    Parameters
    ----------
    vectors : mapping of str to Tensor, shape [n, d]
        Unit vectors of the gallery, by modality.
    present : mapping of str to Tensor of bool, shape [n]
        By modality, whether each clip has it; a gallery consists of the clips that have both sides.

    Returns
    -------
    dict of str to dict of str to float
        Metrics by direction: each ordered pair, such as ``ecg->bas``, and, with three or more
        modalities, each modality against the mean of the others, such as ``resp->others``.
    """
    metrics = {}
    for a, b in permutations(vectors, 2):
        both = present[a] & present[b]
        metrics[f"{a}->{b}"] = _summary(vectors[a][both], vectors[b][both])
    for a in vectors:
        others = [m for m in vectors if m != a]
        if len(others) > 1:
            weight = torch.stack([present[m] for m in others]).to(vectors[a].dtype).unsqueeze(2)
            count = weight.sum(0)
            both = present[a] & (count[:, 0] > 0)
            mean = (torch.stack([vectors[m] for m in others]) * weight).sum(0) / count.clamp(min=1)
            metrics[f"{a}->others"] = _summary(vectors[a][both], mean[both])
    return metrics


def ranks(queries: Tensor, targets: Tensor) -> Tensor:
    """Return the rank of each query's own target; 1 is best, and ties count against it.

    Parameters
    ----------
    queries, targets : Tensor of float, shape [n, dim]
        Unit vectors; row i of ``targets`` belongs to row i of ``queries``.

    Returns
    -------
    Tensor of int64, shape [n]
        The number of targets that score at least as high as the query's own, itself included.
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
        Predicted probability of each class.
    labels : ndarray of int64, shape [n]
        True classes.

    Returns
    -------
    dict
        ``accuracy``, and means over the classes that occur, one against the rest:
        ``balanced_accuracy``, ``auroc`` (the Mann-Whitney statistic; ties count half) and ``auprc``
        (average precision). The last two are None where only one class occurs.
    """
    predicted = probabilities.argmax(axis=1)
    present = [int(k) for k in np.unique(labels)]
    recalls = [float(np.mean(predicted[labels == k] == k)) for k in present]
    areas = [_areas(probabilities[:, k], labels == k) for k in present if len(present) > 1]
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "auroc": float(np.mean([roc for roc, _ in areas])) if areas else None,
        "auprc": float(np.mean([prc for _, prc in areas])) if areas else None,
    }


def _areas(scores: NDArray[np.float32], true: NDArray[np.bool_]) -> tuple[float, float]:
    """Return AUROC and average precision; equal scores share a threshold."""
    values, threshold = np.unique(-scores, return_inverse=True)
    positives = np.bincount(threshold[true], minlength=len(values)).astype(np.float64)
    negatives = np.bincount(threshold[~true], minlength=len(values)).astype(np.float64)
    true_positives, false_positives = positives.cumsum(), negatives.cumsum()
    below = false_positives[-1] - false_positives + negatives / 2
    roc = float((positives * below).sum() / (true_positives[-1] * false_positives[-1]))
    return roc, float(
        (positives * true_positives / (true_positives + false_positives)).sum() / true_positives[-1]
    )


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
