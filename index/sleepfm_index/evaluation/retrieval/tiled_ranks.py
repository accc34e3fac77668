"""Ranks of several directions from the same products: one pass for all of them.

The scores of modality a against b, tile by tile, rank a's queries along the rows and b's along the
columns; and the score against the mean of several modalities is the mean of their scores. So of
three modalities the six ordered pairs and the three leave-one-out targets need three products per
pair of clips, not twelve.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from os import cpu_count
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sleepfm_index.runtime.threads import setting
from sleepfm_index.schema import OTHERS
from sleepfm_index.search.exact import CLOSE, EQUAL, exact_scores

TILE: Final = 960
"""Clips per side; not a power of two, which would map all columns to one cache set."""
_COMPARED: Final = 1 << 15
_BYTE: Final = 255

Scores = NDArray[np.float32]
Rows = NDArray[np.int64]


def shared_ranks(
    vectors: Mapping[str, NDArray[np.float32]], tile: int = TILE, threads: int | None = None
) -> dict[tuple[str, str], tuple[Rows, Rows]]:
    """Rank all directions between modalities that all clips have.

    Parameters
    ----------
    vectors : mapping of str to ndarray of float32, shape [n, d]
        Unit vectors of each modality; row ``i`` of one is the true answer to row ``i`` of another.
    tile : int
        Clips per side of a tile.
    threads : int, optional
        Tiles that are worked on at a time, each by one thread.

    Returns
    -------
    dict of (query, target) to (ranks, hits)
        As :func:`.ranks.ranks_and_hits` gives them, for every ordered pair and, of three or more
        modalities, for ``others`` of each.
    """
    sides = _Sides(dict(vectors))
    starts = range(0, sides.rows, tile)
    tiles = [(a, b) for a in starts for b in starts if a <= b]
    workers = threads or setting() or cpu_count() or 1
    # One thread a tile: all it needs stays in its core's cache, and nobody waits for another.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        shares = [tiles[at::workers] for at in range(workers)]
        parts = list(pool.map(lambda share: _Counts(sides).through(share, tile), shares))
    total = parts[0]
    for part in parts[1:]:
        total.merge(part)
    return {
        direction: (total.count[at], np.where(total.count[at] == 1, total.own, total.best_at[at]))
        for at, direction in enumerate(sides.directions)
    }


@dataclass(frozen=True)
class _Sides:
    """The vectors, the directions between them, and the scores of the true answers."""

    vectors: dict[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        names = tuple(self.vectors)
        directions = [(a, b) for a in names for b in names if a != b]
        directions += [(name, OTHERS) for name in names if len(names) > 2]
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "directions", directions)
        rows = np.arange(self.rows)
        own = [self.exact(at, rows, rows) for at in range(len(directions))]
        object.__setattr__(self, "own", own)
        object.__setattr__(self, "low", [(x - CLOSE).astype(np.float32) for x in own])
        object.__setattr__(self, "high", [(x + CLOSE).astype(np.float32) for x in own])

    names: Any = None
    directions: Any = None
    own: Any = None
    low: Any = None
    high: Any = None

    @property
    def rows(self) -> int:
        return len(next(iter(self.vectors.values())))

    def exact(self, direction: int, query: Rows, target: Rows) -> NDArray[np.float64]:
        """Scores in float64 of some queries against some targets, one by one."""
        name, to = self.directions[direction]
        found = np.empty(len(query))
        others = [to] if to != OTHERS else [n for n in self.names if n != name]
        for start in range(0, len(query), _COMPARED):
            some = slice(start, start + _COMPARED)
            asked = self.vectors[name][query[some]]
            parts = [exact_scores(asked, self.vectors[o][target[some]]) for o in others]
            found[some] = sum(parts) / len(parts)
        return found


class _Counts:
    """Counts of one thread."""

    def __init__(self, sides: _Sides) -> None:
        self._sides = sides
        n = sides.rows
        self.own = np.arange(n)
        self.count = [np.zeros(n, np.int64) for _ in sides.directions]
        self.best = [np.full(n, -np.inf, np.float32) for _ in sides.directions]
        self.best_at = [self.own.copy() for _ in sides.directions]
        self._at = {direction: at for at, direction in enumerate(sides.directions)}

    def through(self, tiles: list[tuple[int, int]], tile: int) -> _Counts:
        """Process some tiles."""
        n = self._sides.rows
        for top, left in tiles:
            here, there = slice(top, min(n, top + tile)), slice(left, min(n, left + tile))
            upper = self._products(here, there)
            self._tile(upper, here, there)
            if top != left:
                lower = self._products(there, here)
                self._tile(lower, there, here)
                self._others(upper, lower, here, there)
                self._others(lower, upper, there, here)
            else:
                self._others(upper, upper, here, here)
        return self

    def merge(self, other: _Counts) -> None:
        """Add the counts of another thread."""
        for at in range(len(self.count)):
            self.count[at] += other.count[at]
            self._better(at, self.own, other.best[at], other.best_at[at])

    def _products(self, rows: slice, columns: slice) -> dict[tuple[str, str], Scores]:
        vectors = self._sides.vectors
        return {
            (a, b): vectors[a][rows] @ vectors[b][columns].T
            for a, b in combinations(self._sides.names, 2)
        }

    def _tile(self, scores: dict[tuple[str, str], Scores], rows: slice, columns: slice) -> None:
        for (a, b), found in scores.items():
            self._along_rows(self._at[a, b], found, rows, columns)
            self._along_columns(self._at[b, a], found, rows, columns)

    def _others(
        self,
        scores: dict[tuple[str, str], Scores],
        mirrored: dict[tuple[str, str], Scores],
        rows: slice,
        columns: slice,
    ) -> None:
        """Rank queries of ``rows`` against the means of ``columns``.

        ``mirrored`` holds the products of ``columns`` with ``rows``, whose transposes are the
        scores of the pairs that were multiplied the other way round.
        """
        names = self._sides.names
        if len(names) < 3:
            return
        share = np.float32(1 / (len(names) - 1))
        *all_but_last, last = names
        mean = np.empty_like(scores[names[0], last])
        for at, name in enumerate(all_but_last):
            parts = [mirrored[other, name].T for other in names[:at]]
            parts += [scores[name, other] for other in names[at + 1 :]]
            _mean(parts, share, mean)
            self._along_rows(self._at[name, OTHERS], mean, rows, columns)
        # of the last modality all are the other way round, so its queries lie along the columns
        parts = [mirrored[other, last] for other in all_but_last]
        mean = np.empty_like(parts[0])
        _mean(parts, share, mean)
        self._along_columns(self._at[last, OTHERS], mean, columns, rows)

    def _along_rows(self, at: int, scores: Scores, rows: slice, columns: slice) -> None:
        low, high = self._sides.low[at][rows, None], self._sides.high[at][rows, None]
        close, above = scores >= low, scores > high
        sure = _row_sums(above)
        self.count[at][rows] += sure
        unsure = np.flatnonzero(_row_sums(close) != sure)
        if len(unsure):
            row, column = np.nonzero(close[unsure] ^ above[unsure])
            self._compare(at, rows.start + unsure[row], columns.start + column)
        top = scores.max(axis=1)
        better = np.flatnonzero(top >= self.best[at][rows])
        if len(better):
            place = scores[better].argmax(axis=1)
            self._better(at, rows.start + better, top[better], columns.start + place)

    def _along_columns(self, at: int, scores: Scores, rows: slice, columns: slice) -> None:
        low, high = self._sides.low[at][None, columns], self._sides.high[at][None, columns]
        close, above = scores >= low, scores > high
        sure = _column_sums(above)
        self.count[at][columns] += sure
        unsure = np.flatnonzero(_column_sums(close) != sure)
        if len(unsure):
            row, column = np.nonzero(close[:, unsure] ^ above[:, unsure])
            self._compare(at, columns.start + unsure[column], rows.start + row)
        top = scores.max(axis=0)
        better = np.flatnonzero(top >= self.best[at][columns])
        if len(better):
            place = scores[:, better].argmax(axis=0)
            self._better(at, columns.start + better, top[better], rows.start + place)

    def _compare(self, at: int, query: Rows, target: Rows) -> None:
        """Count the candidates that float32 cannot tell from the true one."""
        exact = self._sides.exact(at, query, target)
        there = query[exact >= self._sides.own[at][query] - EQUAL]
        self.count[at] += np.bincount(there, minlength=len(self.own))

    def _better(self, at: int, query: Rows, score: Scores, place: Rows) -> None:
        known, known_at = self.best[at][query], self.best_at[at][query]
        # of equal scores the first, whichever thread saw it first
        wins = (score > known) | ((score == known) & (place < known_at))
        self.best[at][query[wins]] = score[wins]
        self.best_at[at][query[wins]] = place[wins]


def _mean(parts: list[Scores], share: np.float32, out: Scores) -> None:
    np.add(parts[0], parts[1], out=out)
    for part in parts[2:]:
        out += part
    out *= share


def _row_sums(marks: NDArray[np.bool_]) -> Rows:
    """Count per row: bits are counted, eight bytes at a time."""
    packed = np.packbits(marks, axis=1)
    spare = -packed.shape[1] % 8
    if spare:
        packed = np.pad(packed, ((0, 0), (0, spare)))
    return np.asarray(np.bitwise_count(packed.view(np.uint64)).sum(axis=1), np.int64)


def _column_sums(marks: NDArray[np.bool_]) -> Rows:
    """Count per column: bytes are added, in blocks of as many rows as a byte can hold."""
    total = np.zeros(marks.shape[1], np.int64)
    ones = marks.view(np.uint8)
    for start in range(0, len(ones), _BYTE):
        total += np.add.reduce(ones[start : start + _BYTE], axis=0, dtype=np.uint8)
    return total
