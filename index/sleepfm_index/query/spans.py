"""Which clip ids belong to which recording: a few numbers for each, however many clips there are.

The clips of a recording are committed together, so their ids lie in one span.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.reader import Reader
from sleepfm_index.storage.metadata import numpy_of


@dataclass(frozen=True)
class Spans:
    """The spans of clip ids of a store's recordings, in order of clip id.

    Parameters
    ----------
    recordings, subjects : list of str, n entries
        Recording and subject of each.
    first, last : ndarray of int64, shape [n]
        First and last clip id, both included.
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
        found = reader.metadata.select(
            "SELECT recording_id, any_value(subject_id) AS subject_id, "
            "min(clip_id)::BIGINT AS first, max(clip_id)::BIGINT AS last "
            "FROM clips GROUP BY recording_id ORDER BY first"
        )
        return cls(
            found["recording_id"].to_pylist(),
            found["subject_id"].to_pylist(),
            numpy_of(found["first"]),
            numpy_of(found["last"]),
        )

    def places(self, clip_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which recording, by its place among the spans, each clip belongs to.

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
        """Return the spans of some subjects.

        Parameters
        ----------
        subjects : set of str
            Their ids; those that are not in the store are passed over.

        Returns
        -------
        list of (first, last)
        """
        places = [at for name in sorted(subjects) for at in self._by_subject.get(name, ())]
        return [(int(self.first[at]), int(self.last[at])) for at in places]

    def unknown_subjects(self, subjects: set[str]) -> list[str]:
        """Name the subjects that have no clip in the store.

        Parameters
        ----------
        subjects : set of str
            Their ids.
        """
        return sorted(subjects - set(self._by_subject))

    @cached_property
    def _by_subject(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for at, subject in enumerate(self.subjects):
            places.setdefault(subject, []).append(at)
        return places
