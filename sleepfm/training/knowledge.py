"""Metrics of the embeddings of the validation clips, for the log of a run."""

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

_DECODED: Final = {"heart_rate": "log_rr_mean_s", "breathing_rate": "log_breath_hz"}


def embedding_metrics(
    vectors: Mapping[str, NDArray[np.float32]],
    present: Mapping[str, NDArray[np.bool_]],
    clips: ClipSet,
) -> dict[str, Any]:
    """Measure the geometry of the embeddings and the linear readout of known values.

    Parameters
    ----------
    vectors : mapping of str to ndarray of float32, shape [n, d]
        Unit vectors of the clips, by modality.
    present : mapping of str to ndarray of bool, shape [n]
        By modality, whether each clip has it.
    clips : ClipSet
        The same clips, with their regression targets if there are any.

    Returns
    -------
    dict
        For each modality ``effective_rank``, ``uniformity`` and, with regression targets,
        ``heart_rate`` and ``breathing_rate`` (Pearson's r of a ridge regression fitted to half of
        the recordings) and ``stage_auroc``; under ``alignment`` one value per pair of modalities.
    """
    metrics: dict[str, Any] = {}
    for modality, embeddings in vectors.items():
        rows = present[modality]
        if rows.sum() < 2:
            continue
        values = {
            "effective_rank": round(effective_rank(embeddings[rows]), 2),
            "uniformity": round(uniformity(embeddings[rows]), 3),
        }
        if clips.targets is not None:
            targets, owner = clips.targets[rows], clips.owner[rows]
            known = {name: targets[:, NAMES.index(column)] for name, column in _DECODED.items()}
            values |= {k: round(r, 3) for k, r in decode(embeddings[rows], known, owner).items()}
            first = NAMES.index(f"stage_{SCORED[0]}")
            stages = targets[:, first : first + len(SCORED)]
            auroc = stage_auroc(embeddings[rows], stages, owner)
            if np.isfinite(auroc):
                values["stage_auroc"] = round(auroc, 3)
        metrics[str(modality)] = values
    metrics["alignment"] = {
        f"{a}-{b}": round(alignment(vectors[a][both], vectors[b][both]), 3)
        for a, b in combinations(vectors, 2)
        if (both := present[a] & present[b]).any()
    }
    return metrics
