"""Properties of the vectors of the validation clips, for the log of a run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.stages import SCORED
from sleepfm.training.batches import ClipSet
from sleepfm.training.geometry import (
    alignment,
    decode,
    effective_rank,
    stage_auroc,
    uniformity,
)
from sleepfm.training.physiology import NAMES

_ASKED: Final = {"heart_rate": "log_rr_mean_s", "breathing_rate": "log_breath_hz"}


def know(
    vectors: Mapping[str, NDArray[np.float32]],
    present: Mapping[str, NDArray[np.bool_]],
    clips: ClipSet,
) -> dict[str, Any]:
    """Measure geometry and decoding.

    Parameters
    ----------
    vectors : mapping of str to ndarray of float32, shape [n, d]
        Unit vectors of the clips.
    present : mapping of str to ndarray of bool, shape [n]
        Which clips have the modality.
    clips : ClipSet
        The same clips, with what is known of them.

    Returns
    -------
    dict
        By modality: ``effective_rank``, ``uniformity`` and, where something is known of the clips,
        ``heart_rate`` and ``breathing_rate`` (r of a ridge regression, half of the recordings
        learned from) and ``stage_auroc``; under ``alignment`` a number per pair.
    """
    found: dict[str, Any] = {}
    for modality, own in vectors.items():
        rows = present[modality]
        if rows.sum() < 2:
            continue
        facts = {
            "effective_rank": round(effective_rank(own[rows]), 2),
            "uniformity": round(uniformity(own[rows]), 3),
        }
        if clips.targets is not None:
            targets, owner = clips.targets[rows], clips.owner[rows]
            known = {name: targets[:, NAMES.index(column)] for name, column in _ASKED.items()}
            facts |= {k: round(r, 3) for k, r in decode(own[rows], known, owner).items()}
            first = NAMES.index(f"stage_{SCORED[0]}")
            stages = targets[:, first : first + len(SCORED)]
            auroc = stage_auroc(own[rows], stages, owner)
            if np.isfinite(auroc):
                facts["stage_auroc"] = round(auroc, 3)
        found[str(modality)] = facts
    found["alignment"] = {
        f"{a}-{b}": round(alignment(vectors[a][both], vectors[b][both]), 3)
        for a, b in combinations(vectors, 2)
        if (both := present[a] & present[b]).any()
    }
    return found
