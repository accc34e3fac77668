"""How far recordings are from what the weights were trained on, and the sentences that say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sleepfm.clips import Clips
from sleepfm.encoders.external import ExternalWeights

if TYPE_CHECKING:
    from sleepfm.encoders.weights import Weights

Distances = Mapping[str, tuple[float, str]]
"""By modality, the ratio of :class:`sleepfm.encoders.training_distribution.Distance` and its slot;
plain values, which go through JSON."""

_NAMED: Final = 5


def distances_of(weights: Weights | ExternalWeights, clips: Clips) -> Distances | None:
    """Measure how far a recording is from the training distribution of weights.

    Parameters
    ----------
    weights : Weights or ExternalWeights
    clips : Clips
        The whole recording, prepared for the weights.

    Returns
    -------
    dict of str to (float, str), or None
        Only modalities that can be judged; None where the weights carry no training distribution.
    """
    if isinstance(weights, ExternalWeights) or weights.distribution is None:
        return None
    found = {m: weights.distribution.distance(m, x) for m, x in clips.signals.items()}
    return {m: (own.ratio, own.slot) for m, own in found.items() if own is not None}


def unlike_sentence(weights: str, modality: str, ratio: float, slot: str) -> str:
    """Say of one recording that it is unlike the training set.

    Parameters
    ----------
    weights : str
        Name of the weights.
    modality : str
    ratio : float
        Above 1.
    slot : str
        The slot that is farthest.
    """
    return (
        f"its {modality} is unlike what {weights} was trained on: {ratio:.1f} times the distance "
        f"that 5 % of people of the same kind exceed, most of all {slot}"
    )


def unlike_sentences(
    weights: str, judged: Sequence[tuple[str, Distances | None]]
) -> tuple[str, ...]:
    """Count the recordings of a build that are unlike the training set, a sentence per modality.

    Parameters
    ----------
    weights : str
        Name of the weights.
    judged : sequence of (str, Distances or None)
        Recording ids with their distances.

    Returns
    -------
    tuple of str
        Empty where no recording is beyond the limit.
    """
    said = []
    for modality in dict.fromkeys(m for _, own in judged for m in own or ()):
        there = [(own[modality][0], name) for name, own in judged if own and modality in own]
        unlike = sorted((one for one in there if one[0] > 1), reverse=True)
        if not unlike:
            continue
        names = ", ".join(f"{name} ({ratio:.1f})" for ratio, name in unlike[:_NAMED])
        more = f" and {len(unlike) - _NAMED:,} more" if len(unlike) > _NAMED else ""
        said.append(
            f"{modality}: {len(unlike):,} of {len(there):,} recordings are unlike what {weights} "
            "was trained on, beyond a limit that 5 % of people of the same kind exceed; in "
            f"multiples of it: {names}{more}"
        )
    return tuple(said)
