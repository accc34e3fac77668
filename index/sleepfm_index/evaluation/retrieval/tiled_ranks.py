"""Ranks of all directions from shared products in one pass.

A tile of scores of modality a against b ranks a's queries along the rows and b's along the columns,
and the score against the mean of several modalities is the mean of their scores. With three
modalities, the six ordered pairs and the three leave-one-out targets need three products per pair
of clips instead of twelve.
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
    """Rank all directions between modalities; all clips have all of them.

    Parameters
    ----------
    vectors : mapping of str to ndarray of float32, shape [n, d]
        Unit vectors by modality; the rows of all modalities are the same clips.
    tile : int
        Number of clips per side of a tile.
    threads : int, optional
        Number of threads, each of which processes one tile at a time.

    Returns
    -------
    dict of (query, target) to (ranks, hits)
        Results as of :func:`.ranks.ranks_and_hits`, for every ordered pair and, with three or more
        modalities, for ``others`` of each.
    """
    sides = _Sides(dict(vectors))
    starts = range(0, sides.rows, tile)
    tiles = [(a, b) for a in starts for b in starts if a <= b]
    workers = threads or setting() or cpu_count() or 1
    # One thread per tile: its data stay in the cache of the core, and threads do not wait.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        shares = [tiles[worker::workers] for worker in range(workers)]
        parts = list(pool.map(lambda share: _Counts(sides).through(share, tile), shares))
    total = parts[0]
    for part in parts[1:]:
        total.merge(part)
    return {
        direction: (
            total.count[i],
            np.where(total.count[i] == 1, total.all_rows, total.best_row[i]),
        )
        for i, direction in enumerate(sides.directions)
    }


@dataclass(frozen=True)
class _Sides:
    """The vectors, the directions between them, and the scores of the true targets."""

    vectors: dict[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        names = tuple(self.vectors)
        directions = [(a, b) for a in names for b in names if a != b]
        directions += [(name, OTHERS) for name in names if len(names) > 2]
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "directions", directions)
        rows = np.arange(self.rows)
        true_scores = [self.exact(i, rows, rows) for i in range(len(directions))]
        object.__setattr__(self, "true_scores", true_scores)
        object.__setattr__(self, "low", [(x - CLOSE).astype(np.float32) for x in true_scores])
        object.__setattr__(self, "high", [(x + CLOSE).astype(np.float32) for x in true_scores])

    names: Any = None
    directions: Any = None
    true_scores: Any = None
    low: Any = None
    high: Any = None

    @property
    def rows(self) -> int:
        return len(next(iter(self.vectors.values())))

    def exact(self, direction: int, query: Rows, target: Rows) -> NDArray[np.float64]:
        """Scores of pairs of queries and targets, in float64."""
        name, to = self.directions[direction]
        scores = np.empty(len(query))
        others = [to] if to != OTHERS else [n for n in self.names if n != name]
        for start in range(0, len(query), _COMPARED):
            block = slice(start, start + _COMPARED)
            queries = self.vectors[name][query[block]]
            parts = [exact_scores(queries, self.vectors[o][target[block]]) for o in others]
            scores[block] = sum(parts) / len(parts)
        return scores


class _Counts:
    """Counts and best hits of one thread."""

    def __init__(self, sides: _Sides) -> None:
        self._sides = sides
        n = sides.rows
        self.all_rows = np.arange(n)
        self.count = [np.zeros(n, np.int64) for _ in sides.directions]
        self.best = [np.full(n, -np.inf, np.float32) for _ in sides.directions]
        self.best_row = [self.all_rows.copy() for _ in sides.directions]
        self._number = {direction: i for i, direction in enumerate(sides.directions)}

    def through(self, tiles: list[tuple[int, int]], tile: int) -> _Counts:
        """Process tiles."""
        n = self._sides.rows
        for top, left in tiles:
            rows, columns = slice(top, min(n, top + tile)), slice(left, min(n, left + tile))
            upper = self._products(rows, columns)
            self._tile(upper, rows, columns)
            if top != left:
                lower = self._products(columns, rows)
                self._tile(lower, columns, rows)
                self._others(upper, lower, rows, columns)
                self._others(lower, upper, columns, rows)
            else:
                self._others(upper, upper, rows, rows)
        return self

    def merge(self, other: _Counts) -> None:
        """Add the counts of another thread."""
        for direction in range(len(self.count)):
            self.count[direction] += other.count[direction]
            self._better(direction, self.all_rows, other.best[direction], other.best_row[direction])

    def _products(self, rows: slice, columns: slice) -> dict[tuple[str, str], Scores]:
        vectors = self._sides.vectors
        return {
            (a, b): vectors[a][rows] @ vectors[b][columns].T
            for a, b in combinations(self._sides.names, 2)
        }

    def _tile(self, scores: dict[tuple[str, str], Scores], rows: slice, columns: slice) -> None:
        for (a, b), products in scores.items():
            self._along_rows(self._number[a, b], products, rows, columns)
            self._along_columns(self._number[b, a], products, rows, columns)

    def _others(
        self,
        scores: dict[tuple[str, str], Scores],
        mirrored: dict[tuple[str, str], Scores],
        rows: slice,
        columns: slice,
    ) -> None:
        """Rank queries of ``rows`` against the means of ``columns``.

        ``mirrored`` has the products of ``columns`` with ``rows``, whose transposes are the scores
        of the reversed pairs.
        """
        names = self._sides.names
        if len(names) < 3:
            return
        share = np.float32(1 / (len(names) - 1))
        *all_but_last, last = names
        mean = np.empty_like(scores[names[0], last])
        for i, name in enumerate(all_but_last):
            parts = [mirrored[other, name].T for other in names[:i]]
            parts += [scores[name, other] for other in names[i + 1 :]]
            _mean(parts, share, mean)
            self._along_rows(self._number[name, OTHERS], mean, rows, columns)
        # all pairs of the last modality are reversed, so its queries are along the columns
        parts = [mirrored[other, last] for other in all_but_last]
        mean = np.empty_like(parts[0])
        _mean(parts, share, mean)
        self._along_columns(self._number[last, OTHERS], mean, columns, rows)

    def _along_rows(self, direction: int, scores: Scores, rows: slice, columns: slice) -> None:
        low, high = self._sides.low[direction][rows, None], self._sides.high[direction][rows, None]
        close, above = scores >= low, scores > high
        certain = _row_sums(above)
        self.count[direction][rows] += certain
        uncertain = np.flatnonzero(_row_sums(close) != certain)
        if len(uncertain):
            row, column = np.nonzero(close[uncertain] ^ above[uncertain])
            self._compare(direction, rows.start + uncertain[row], columns.start + column)
        top = scores.max(axis=1)
        better = np.flatnonzero(top >= self.best[direction][rows])
        if len(better):
            best_column = scores[better].argmax(axis=1)
            self._better(direction, rows.start + better, top[better], columns.start + best_column)

    def _along_columns(self, direction: int, scores: Scores, rows: slice, columns: slice) -> None:
        low, high = (
            self._sides.low[direction][None, columns],
            self._sides.high[direction][None, columns],
        )
        close, above = scores >= low, scores > high
        certain = _column_sums(above)
        self.count[direction][columns] += certain
        uncertain = np.flatnonzero(_column_sums(close) != certain)
        if len(uncertain):
            row, column = np.nonzero(close[:, uncertain] ^ above[:, uncertain])
            self._compare(direction, columns.start + uncertain[column], rows.start + row)
        top = scores.max(axis=0)
        better = np.flatnonzero(top >= self.best[direction][columns])
        if len(better):
            best_row = scores[:, better].argmax(axis=0)
            self._better(direction, columns.start + better, top[better], rows.start + best_row)

    def _compare(self, direction: int, query: Rows, target: Rows) -> None:
        """Count the candidates within the float32 error of the true target by float64 scores."""
        exact = self._sides.exact(direction, query, target)
        counted = query[exact >= self._sides.true_scores[direction][query] - EQUAL]
        self.count[direction] += np.bincount(counted, minlength=len(self.all_rows))

    def _better(self, direction: int, query: Rows, score: Scores, candidate: Rows) -> None:
        best, best_row = self.best[direction][query], self.best_row[direction][query]
        # the first of equal scores, independently of the order of threads
        wins = (score > best) | ((score == best) & (candidate < best_row))
        self.best[direction][query[wins]] = score[wins]
        self.best_row[direction][query[wins]] = candidate[wins]


def _mean(parts: list[Scores], share: np.float32, out: Scores) -> None:
    np.add(parts[0], parts[1], out=out)
    for part in parts[2:]:
        out += part
    out *= share


def _row_sums(marks: NDArray[np.bool_]) -> Rows:
    """Count per row, by counting bits in groups of eight bytes."""
    packed = np.packbits(marks, axis=1)
    spare = -packed.shape[1] % 8
    if spare:
        packed = np.pad(packed, ((0, 0), (0, spare)))
    return np.asarray(np.bitwise_count(packed.view(np.uint64)).sum(axis=1), np.int64)


def _column_sums(marks: NDArray[np.bool_]) -> Rows:
    """Count per column, by adding bytes in blocks of at most 255 rows."""
    total = np.zeros(marks.shape[1], np.int64)
    ones = marks.view(np.uint8)
    for start in range(0, len(ones), _BYTE):
        total += np.add.reduce(ones[start : start + _BYTE], axis=0, dtype=np.uint8)
    return total
