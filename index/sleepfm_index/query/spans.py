"""The span of clip ids of each recording.

The clips of a recording are committed together, so their ids lie in one span.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.reader import Reader
from sleepfm_index.storage.arrow_columns import numpy_of


@dataclass(frozen=True)
class Spans:
    """The spans of clip ids of a store's recordings, in order of clip id.

    Parameters
    ----------
    recordings, subjects : list of str, n entries
        Recording and subject of each span.
    first, last : ndarray of int64, shape [n]
        First and last clip id of each span, both inclusive.
    """

    recordings: list[str]
    subjects: list[str]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, reader: Reader) -> Spans:
        """Read the spans of a store.

        Parameters
        ----------
        reader : Reader
            The open store.
        """
        spans = reader.metadata.select(
            "SELECT recording_id, any_value(subject_id) AS subject_id, "
            "min(clip_id)::BIGINT AS first, max(clip_id)::BIGINT AS last "
            "FROM clips GROUP BY recording_id ORDER BY first"
        )
        return cls(
            spans["recording_id"].to_pylist(),
            spans["subject_id"].to_pylist(),
            numpy_of(spans["first"]),
            numpy_of(spans["last"]),
        )

    def index_of(self, clip_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of the span of each clip.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Ids of clips of the store.

        Returns
        -------
        ndarray of int64, shape [n]
        """
        return np.asarray(np.searchsorted(self.first, clip_ids, side="right") - 1)

    def of_subjects(self, subjects: set[str]) -> list[tuple[int, int]]:
        """Return the spans of subjects.

        Parameters
        ----------
        subjects : set of str
            Subject ids; those that are not in the store are ignored.

        Returns
        -------
        list of (int, int)
            First and last clip id of each span, both inclusive.
        """
        indices = [i for name in sorted(subjects) for i in self._by_subject.get(name, ())]
        return [(int(self.first[i]), int(self.last[i])) for i in indices]

    def unknown_subjects(self, subjects: set[str]) -> list[str]:
        """List the subjects that have no clip in the store.

        Parameters
        ----------
        subjects : set of str
            Subject ids.
        """
        return sorted(subjects - set(self._by_subject))

    @cached_property
    def _by_subject(self) -> dict[str, list[int]]:
        indices: dict[str, list[int]] = {}
        for index, subject in enumerate(self.subjects):
            indices.setdefault(subject, []).append(index)
        return indices
