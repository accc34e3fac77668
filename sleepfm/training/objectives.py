"""The contrastive objectives: SleepFM's pairwise and leave-one-out, and SigLIP.

Clips of a batch are matched between modalities by symmetric InfoNCE (Thapa et al., ICML 2024, arXiv
2405.17766, section 3.2): for each direction, the cross-entropy of picking a clip's own counterpart
among those of the batch, similarities multiplied by exp(t) with a learned t. *Pairwise* contrasts
every pair of modalities; *leave-one-out* contrasts each modality with the mean of the clip's other
vectors, which is not normalised again. *SigLIP* contrasts every pair of modalities too, by a
sigmoid per pair of clips instead of a softmax over the batch.
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
"""Stands for "the others" where a term would name a second modality."""


@dataclass(frozen=True)
class Term:
    """One contrast, both ways.

    Parameters
    ----------
    first, second : int
        Positions of the modalities; ``second`` is :data:`OTHERS` in leave-one-out.
    cross_entropy : Tensor, scalar
        Sum over both directions and all clips that take part.
    hits : Tensor, scalar
        How often a clip's own counterpart scored highest, in both directions together.
    clips : int
        Clips that take part, each in both directions.
    """

    first: int
    second: int
    cross_entropy: Tensor
    hits: Tensor
    clips: int


@dataclass(frozen=True)
class Contrast:
    """The loss of a batch, and the terms it is the mean of."""

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
    """Measure how well the vectors of a batch find their counterparts.

    Parameters
    ----------
    objective : {"pairwise", "leave-one-out", "siglip"}
        What is contrasted with what.
    vectors : sequence of Tensor, shape [n, d], at least 2
        Unit vectors, one tensor per modality; row ``i`` of all belongs to clip ``i``.
    temperature : Tensor, scalar
        The parameter t.
    present : Tensor of bool, shape [modalities, n], optional
        Which clips have which modality; by default all. A clip takes part with those it has.
    memory : sequence of Tensor, shape [k, d], optional
        Vectors of other clips, one tensor per modality, as further negatives; row ``i`` of all
        belongs to one clip.
    bias : Tensor, scalar, optional
        What siglip adds to every similarity.

    Returns
    -------
    Contrast
        ``loss`` is the mean over all cross-entropies of all directions; for complete batches that
        is the authors' sum / number of directions / n.

    Raises
    ------
    ValueError
        If there are fewer than two modalities, or no two clips that share a contrast.
    """
    if len(vectors) < 2:
        raise ValueError("a contrast needs at least two modalities")
    scale = temperature.exp()
    old = list(_sides(objective, memory, None)) if memory is not None and len(memory[0]) else []
    terms = []
    for number, (first, second, a, b) in enumerate(_sides(objective, vectors, present)):
        if len(a) < 2:
            continue
        if objective == "siglip":
            terms.append(_sigmoid_term(first, second, a, b, scale, bias))
        else:
            terms.append(_term(first, second, a, b, scale, old[number][2:] if old else None))
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
    old: tuple[Tensor, Tensor] | None,
) -> Term:
    logits = a @ b.T * scale
    forward, backward = logits, logits.T
    if old is not None:
        forward = torch.cat([forward, a @ old[1].T * scale], dim=1)
        backward = torch.cat([backward, b @ old[0].T * scale], dim=1)
    own = torch.arange(len(a), device=a.device)
    loss = F.cross_entropy(forward, own, reduction="sum")
    loss = loss + F.cross_entropy(backward, own, reduction="sum")
    return Term(first, second, loss, _hits(logits), len(a))


def _sigmoid_term(
    first: int, second: int, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor | None
) -> Term:
    """Each pair of a batch by itself: counterparts or not (Zhai et al. 2023, arXiv 2303.15343)."""
    logits = a @ b.T * scale
    shifted = logits if bias is None else logits + bias
    sign = 2 * torch.eye(len(a), device=a.device, dtype=a.dtype) - 1
    # twice, as the other terms sum over both directions
    loss = -2 * F.logsigmoid(sign * shifted).sum()
    return Term(first, second, loss, _hits(logits), len(a))


def _hits(logits: Tensor) -> Tensor:
    with torch.no_grad():
        true = logits.diagonal()
        # a tie is no hit: vectors that are all alike find nothing
        hits = ((logits >= true[:, None]).sum(1) == 1).sum()
        return hits + ((logits >= true[None, :]).sum(0) == 1).sum()
