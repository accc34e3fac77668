"""Metadata of clips for retrieval measures: stage, subject, recording, time, and a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepfm.stages import SCORED
from sleepfm_index.evaluation.labels.columns import clip_columns, codes, numbers
from sleepfm_index.reader import Reader


@dataclass(frozen=True)
class Facts:
    """Metadata of clips as codes, in the order of ``clip_ids``; -1 if unknown."""

    clip_ids: NDArray[np.int64]
    stage: NDArray[np.int64]
    subject: NDArray[np.int64]
    recording: NDArray[np.int64]
    start_s: NDArray[np.float64]
    group: NDArray[np.int64]
    groups: list[object]

    @classmethod
    def of(cls, store: Reader, clip_ids: NDArray[np.int64], by: str | None = None) -> Facts:
        """Read the metadata of clips.

        Parameters
        ----------
        store : Reader
            The open store.
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        by : str, optional
            Column to group by.
        """
        names = ["stage", "subject_id", "recording_id", "start_s", *([by] if by else [])]
        table = clip_columns(store, clip_ids, names)
        stage, stages = codes(table["stage"])
        scored = np.array([s in SCORED for s in stages] + [False])
        group, groups = codes(table[by]) if by else (np.zeros(len(clip_ids), np.int64), [])
        return cls(
            clip_ids,
            np.where(scored[stage], stage, -1),
            codes(table["subject_id"])[0],
            codes(table["recording_id"])[0],
            numbers(table["start_s"]),
            group,
            groups,
        )
