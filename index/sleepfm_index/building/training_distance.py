"""Distance of recordings from the training set of the weights, and sentences that report it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sleepfm.clips import Clips
from sleepfm.encoders.external import ExternalWeights

if TYPE_CHECKING:
    from sleepfm.encoders.weights import Weights

Distances = Mapping[str, tuple[float, str]]
"""Ratio and slot of a :class:`sleepfm.encoders.training_distribution.Distance` by modality, as
plain values that JSON can hold."""

_MAX_NAMES: Final = 5


def distances_of(weights: Weights | ExternalWeights, clips: Clips) -> Distances | None:
    """Measure how far a recording is from the training distribution of weights.

    Parameters
    ----------
    weights : Weights or ExternalWeights
        The weights.
    clips : Clips
        The whole recording, prepared for the weights.

    Returns
    -------
    dict of str to (float, str), or None
        Ratio and slot of each modality that can be judged; None if the weights carry no training
        distribution.
    """
    if isinstance(weights, ExternalWeights) or weights.distribution is None:
        return None
    distances = {m: weights.distribution.distance(m, x) for m, x in clips.signals.items()}
    return {m: (d.ratio, d.slot) for m, d in distances.items() if d is not None}


def unlike_sentence(weights: str, modality: str, ratio: float, slot: str) -> str:
    """Describe how a recording differs from the training set.

    Parameters
    ----------
    weights : str
        Name of the weights.
    modality : str
        Modality in which the recording differs.
    ratio : float
        Distance of the recording over the limit, above 1.
    slot : str
        The slot with the largest distance.

    Returns
    -------
    str
    """
    return (
        f"its {modality} is unlike what {weights} was trained on: {ratio:.1f} times the distance "
        f"that 5 % of people of the same kind exceed, most of all {slot}"
    )


def unlike_sentences(
    weights: str, recordings: Sequence[tuple[str, Distances | None]]
) -> tuple[str, ...]:
    """Count the recordings of a build that differ from the training set, by modality.

    Parameters
    ----------
    weights : str
        Name of the weights.
    recordings : sequence of (str, Distances or None)
        Recording ids with their distances.

    Returns
    -------
    tuple of str
        One sentence per modality in which a recording is beyond the limit.
    """
    sentences = []
    for modality in dict.fromkeys(m for _, distances in recordings for m in distances or ()):
        ratios = [
            (distances[modality][0], recording_id)
            for recording_id, distances in recordings
            if distances and modality in distances
        ]
        beyond = sorted((r for r in ratios if r[0] > 1), reverse=True)
        if not beyond:
            continue
        names = ", ".join(f"{name} ({ratio:.1f})" for ratio, name in beyond[:_MAX_NAMES])
        more = f" and {len(beyond) - _MAX_NAMES:,} more" if len(beyond) > _MAX_NAMES else ""
        sentences.append(
            f"{modality}: {len(beyond):,} of {len(ratios):,} recordings are unlike what {weights} "
            "was trained on, beyond a limit that 5 % of people of the same kind exceed; in "
            f"multiples of it: {names}{more}"
        )
    return tuple(sentences)
