"""The contrastive objectives: SleepFM's pairwise and leave-one-out, and SigLIP.

Clips of a batch are matched between modalities by symmetric InfoNCE (Thapa et al., ICML 2024, arXiv
2405.17766, section 3.2): for each direction, the cross-entropy of identifying a clip's counterpart
among those of the batch, with similarities multiplied by exp(t) with a learned t. *Pairwise*
contrasts every pair of modalities; *leave-one-out* contrasts each modality with the mean of the
clip's other vectors, which is not normalised again. *SigLIP* also contrasts every pair of
modalities, with a sigmoid per pair of clips instead of a softmax over the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from sleepfm.choices import Objective

OTHERS = -1
"""Index of the second modality of a leave-one-out term: the mean of all others."""


@dataclass(frozen=True)
class Term:
    """One contrastive term, in both directions.

    Parameters
    ----------
    first, second : int
        Indices of the modalities; ``second`` is :data:`OTHERS` in leave-one-out.
    cross_entropy : Tensor, scalar
        Sum over both directions and all clips of the term.
    hits : Tensor, scalar
        Number of clips whose counterpart scores highest, summed over both directions.
    clips : int
        Number of clips that take part: they have the first modality and the second, or any other.
    """

    first: int
    second: int
    cross_entropy: Tensor
    hits: Tensor
    clips: int


@dataclass(frozen=True)
class Contrast:
    """Contrastive loss of a batch.

    Parameters
    ----------
    loss : Tensor, scalar
        Mean over the terms, weighted by their clips.
    terms : tuple of Term
        The terms it is composed of.
    """

    loss: Tensor
    terms: tuple[Term, ...]


def contrast(
    objective: Objective,
    vectors: Sequence[Tensor],
    temperature: Tensor,
    present: Tensor | None = None,
    *,
    memory: Sequence[Tensor] | None = None,
    bias: Tensor | None = None,
) -> Contrast:
    """Compute the contrastive loss of a batch.

    Parameters
    ----------
    objective : {"pairwise", "leave-one-out", "siglip"}
        The objective.
    vectors : sequence of Tensor, shape [n, d], at least 2
        Unit vectors, one tensor per modality; row ``i`` of each belongs to clip ``i``.
    temperature : Tensor, scalar
        The temperature parameter t.
    present : Tensor of bool, shape [modalities, n], optional
        Whether each clip has each modality; by default all do. A clip contributes to the terms of
        the modalities it has.
    memory : sequence of Tensor, shape [k, d], optional
        Vectors of other clips, one tensor per modality, used as additional negatives; row ``i`` of
        each belongs to the same clip.
    bias : Tensor, scalar, optional
        Bias added to all similarities in ``siglip``.

    Returns
    -------
    Contrast
        ``loss`` is the mean over the cross-entropies of all clips and directions; if every clip has
        all modalities, it equals the authors' sum / number of directions / n.

    Raises
    ------
    ValueError
        If there are fewer than two modalities, or no term has at least two clips.
    """
    if len(vectors) < 2:
        raise ValueError("a contrast needs at least two modalities")
    scale = temperature.exp()
    negatives = (
        list(_sides(objective, memory, None)) if memory is not None and len(memory[0]) else []
    )
    terms = []
    for position, (first, second, a, b) in enumerate(_sides(objective, vectors, present)):
        if len(a) < 2:
            continue
        if objective == "siglip":
            terms.append(_sigmoid_term(first, second, a, b, scale, bias))
        else:
            terms.append(
                _term(first, second, a, b, scale, negatives[position][2:] if negatives else None)
            )
    if not terms:
        raise ValueError("a contrast needs at least two clips that have the modalities")
    total = torch.stack([t.cross_entropy for t in terms]).sum()
    return Contrast(total / (2 * sum(t.clips for t in terms)), tuple(terms))


def _sides(
    objective: Objective, vectors: Sequence[Tensor], present: Tensor | None
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    if objective != "leave-one-out":
        for i, j in combinations(range(len(vectors)), 2):
            both = None if present is None else present[i] & present[j]
            yield i, j, _rows(vectors[i], both), _rows(vectors[j], both)
        return
    for i in range(len(vectors)):
        others = [j for j in range(len(vectors)) if j != i]
        stacked = torch.stack([vectors[j] for j in others])
        if present is None:
            yield i, OTHERS, vectors[i], stacked.mean(dim=0)
            continue
        weight = present[others].to(stacked.dtype).unsqueeze(2)
        count = weight.sum(dim=0)
        both = present[i] & (count[:, 0] > 0)
        mean = (stacked * weight).sum(dim=0)[both] / count[both]
        yield i, OTHERS, vectors[i][both], mean


def _rows(vectors: Tensor, chosen: Tensor | None) -> Tensor:
    return vectors if chosen is None else vectors[chosen]


def _term(
    first: int,
    second: int,
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    negatives: tuple[Tensor, Tensor] | None,
) -> Term:
    logits = a @ b.T * scale
    forward, backward = logits, logits.T
    if negatives is not None:
        forward = torch.cat([forward, a @ negatives[1].T * scale], dim=1)
        backward = torch.cat([backward, b @ negatives[0].T * scale], dim=1)
    target = torch.arange(len(a), device=a.device)
    loss = F.cross_entropy(forward, target, reduction="sum")
    loss = loss + F.cross_entropy(backward, target, reduction="sum")
    return Term(first, second, loss, _hits(logits), len(a))


def _sigmoid_term(
    first: int, second: int, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor | None
) -> Term:
    """Classify each pair of a batch as matching or not (Zhai et al. 2023, arXiv 2303.15343)."""
    logits = a @ b.T * scale
    shifted = logits if bias is None else logits + bias
    sign = 2 * torch.eye(len(a), device=a.device, dtype=a.dtype) - 1
    # doubled, because the other objectives sum over both directions
    loss = -2 * F.logsigmoid(sign * shifted).sum()
    return Term(first, second, loss, _hits(logits), len(a))


def _hits(logits: Tensor) -> Tensor:
    with torch.no_grad():
        true = logits.diagonal()
        # a tie is not a hit, so that collapsed vectors score zero
        hits = ((logits >= true[:, None]).sum(1) == 1).sum()
        return hits + ((logits >= true[None, :]).sum(0) == 1).sum()
