"""Clip ids of a segment, as runs of consecutive ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.storage.manifest import SegmentEntry


@dataclass(frozen=True)
class ClipIds:
    """The clip ids of a segment as runs of consecutive ids, in little memory.

    Parameters
    ----------
    first : ndarray of int64, shape [r]
        First clip id of each run, ascending.
    row : ndarray of int64, shape [r + 1]
        Row at which each run starts, then the number of rows.
    """

    first: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of_runs(cls, runs: list[tuple[int, int]]) -> ClipIds:
        """Create the ids from runs.

        Parameters
        ----------
        runs : list of (int, int)
            First and last clip id of each run, both inclusive, ascending.
        """
        first, last = np.array(runs, np.int64).reshape(-1, 2).T
        return cls(first, np.r_[0, np.cumsum(last - first + 1)])

    def of_slice(self, rows: slice) -> NDArray[np.int64]:
        """Clip ids of a slice of rows.

        Parameters
        ----------
        rows : slice
            Row numbers.
        """
        start, stop, _ = rows.indices(int(self.row[-1]))
        if len(self.first) == 1:
            return np.arange(self.first[0] + start, self.first[0] + stop, dtype=np.int64)
        return self.of_rows(np.arange(start, stop, dtype=np.int64))

    def of_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Clip ids of rows.

        Parameters
        ----------
        rows : ndarray of int64, shape [n]
            Row numbers within the segment.
        """
        run = np.searchsorted(self.row, rows, side="right") - 1
        ids: NDArray[np.int64] = self.first[run] + rows - self.row[run]
        return ids

    def runs(self) -> list[tuple[int, int]]:
        """First and last clip id of each run, both inclusive."""
        last = self.first + np.diff(self.row) - 1
        return list(zip(self.first.tolist(), last.tolist(), strict=True))

    def rows(self, clip_ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Row numbers of clip ids, int64 [n]; None if the segment lacks one of them.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        """
        if len(self.first) == 1:
            rows: NDArray[np.int64] = clip_ids - self.first[0]
            # As an unsigned number, a negative row is larger than any other.
            return rows if rows.view(np.uint64).max(initial=0) < self.row[-1] else None
        run = np.searchsorted(self.first, clip_ids, side="right") - 1
        rows = self.row[run] + clip_ids - self.first[run]
        known = bool(np.all((run >= 0) & (rows < self.row[run + 1])))
        return rows if known else None


def is_run(segment: SegmentEntry) -> bool:
    """Whether the clip ids of a segment are consecutive.

    Parameters
    ----------
    segment : SegmentEntry
        Entry of the segment in the manifest.
    """
    return segment.rows == segment.last_clip_id - segment.first_clip_id + 1
