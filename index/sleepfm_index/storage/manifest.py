"""The manifest: the only mutable file of a store. Replacing it is the commit point."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.cohort_choices import BEFORE_GRIDS, NO_CHOICES, Choices
from sleepfm.contract import Contract
from sleepfm.errors import WeightsError
from sleepfm_index.errors import FormatError, UncompactedError
from sleepfm_index.schema import targets
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import publish_file
from sleepfm_index.storage.manifest_entries import (
    IndexEntry,
    Recall,
    RowCacheEntry,
    SearchSetting,
    SegmentEntry,
    WeightsIdentity,
    count,
    index_entry,
    row_cache_entry,
    safe_name,
    seconds,
    segment_entry,
    strings,
)
from sleepfm_index.storage.plain_files import read_json

__all__ = [
    "IndexEntry",
    "Manifest",
    "Recall",
    "RowCacheEntry",
    "SearchSetting",
    "SegmentEntry",
    "WeightsIdentity",
    "as_ranges",
    "read_manifest",
    "write_manifest",
]

FORMAT: Final = "sleepfm-index store"
FORMAT_VERSION: Final = 1
INVERTED_LISTS: Final = "inverted-lists"
INDEX_PARAMETERS: Final = "index-parameters"
WITHDRAWALS: Final = "withdrawals"
FEATURES: Final = frozenset({INVERTED_LISTS, INDEX_PARAMETERS, WITHDRAWALS})
"""Feature flags that this version supports; a store with any other is refused."""

_MAX_BYTES: Final = 1 << 28
"""Maximum size of a manifest in bytes; 14,000 segments take about 20 MB."""
MAX_CLIPS: Final = 1 << 31
"""Upper bound of clip ids (two million nights), so that a hostile count cannot exhaust memory."""
_CLIP_ROWS: Final = "clip-rows"


@dataclass(frozen=True)
class Manifest:
    """Contents of a store: segments, indexes, deleted clips, weights, contract and snapshot.

    ``written`` is the time of the commit in seconds since 1970, or 0 if unknown; ``tags`` maps
    user-defined names to snapshots.
    """

    uuid: str
    weights: WeightsIdentity
    contract: Contract
    snapshot: int = 0
    next_clip_id: int = 0
    segments: tuple[SegmentEntry, ...] = ()
    indexes: tuple[IndexEntry, ...] = ()
    deleted: tuple[tuple[int, int], ...] = ()
    withdrawn: tuple[str, ...] = ()
    choices: Choices = NO_CHOICES
    row_cache: RowCacheEntry | None = None
    withdrawals: tuple[str, ...] = ()
    written: float = 0.0
    tags: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def rows(self) -> int:
        """Number of clips in all segments, without deleted clips."""
        return sum(s.rows for s in self.segments) - sum(b - a + 1 for a, b in self.deleted)

    @cached_property
    def sources(self) -> frozenset[str]:
        """Content keys of all recordings in the store, without withdrawn recordings."""
        keys = {key for segment in self.segments for key in segment.sources}
        return frozenset(keys.difference(self.withdrawn))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities of the contract, in order."""
        return self.contract.modalities

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets of a search; each has an index of its own."""
        return targets(self.modalities)

    @property
    def features(self) -> tuple[str, ...]:
        """Features, beyond the format version, that a program must support to read the store."""
        parameters = [set(s.parameters) for i in self.indexes for s in i.settings]
        used = {
            INVERTED_LISTS: any(i.kind.startswith("IVF") for i in self.indexes),
            # A program that supports only inverted files takes other parameters for damage.
            INDEX_PARAMETERS: any(names != {"probes"} for names in parameters),
            # A program that does not support withdrawals would add deleted recordings again.
            WITHDRAWALS: bool(self.withdrawals),
        }
        return tuple(name for name in used if used[name])

    @cached_property
    def stored_ids(self) -> int:
        """Exclusive upper bound of the clip ids of the segments; at most ``next_clip_id``."""
        return max((s.last_clip_id + 1 for s in self.segments), default=0)

    @property
    def names(self) -> tuple[frozenset[str], frozenset[str]]:
        """Folders in ``segments/`` and files in ``indexes/`` of this snapshot."""
        return frozenset(s.id for s in self.segments), frozenset(c.file for c in self.caches)

    @property
    def caches(self) -> tuple[IndexEntry | RowCacheEntry, ...]:
        """Files in ``indexes/``, all of which can be rebuilt from the segments."""
        return (*self.indexes, *(() if self.row_cache is None else (self.row_cache,)))

    def with_segment(self, segment: SegmentEntry) -> Manifest:
        """Return the manifest with another segment and the next free clip id.

        Parameters
        ----------
        segment : SegmentEntry
            The segment to add.
        """
        return replace(
            self,
            segments=(*self.segments, segment),
            next_clip_id=max(self.next_clip_id, segment.last_clip_id + 1),
        )

    def without_clips(
        self,
        clip_ids: NDArray[np.int64],
        withdrawn: tuple[str, ...],
        marks: tuple[str, ...] = (),
    ) -> Manifest:
        """Return the manifest with clips (ascending ids) and recordings hidden.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clips to hide.
        withdrawn, marks : tuple of str
            Content keys and withdrawal marks (:mod:`.withdrawals`) of the recordings.
        """
        ranges = sorted([*self.deleted, *as_ranges(clip_ids)])
        merged: list[tuple[int, int]] = []
        for first, last in ranges:
            if merged and merged[-1][1] + 1 == first:
                first = merged.pop()[0]
            merged.append((first, last))
        keys = dict.fromkeys([*self.withdrawn, *withdrawn])
        all_marks = tuple(dict.fromkeys([*self.withdrawals, *marks]))
        return replace(self, deleted=tuple(merged), withdrawn=tuple(keys), withdrawals=all_marks)

    def readmitted(self, source: str, marks: Collection[str]) -> Manifest:
        """Return the manifest with the withdrawal of a recording lifted.

        Its deleted clips leave the manifest; their bytes remain for snapshots that contain them.

        Parameters
        ----------
        source : str
            Content key of the recording.
        marks : collection of str
            Withdrawal marks of the recording.

        Raises
        ------
        UncompactedError
            If its segment has other recordings, so that a compaction is required first.
        """
        kept = tuple(s for s in self.segments if source not in s.sources)
        for segment in self.segments:
            first, last = segment.first_clip_id, segment.last_clip_id
            inside = (min(b, last) - max(a, first) + 1 for a, b in self.deleted)
            if segment not in kept and sum(n for n in inside if n > 0) < segment.rows:
                raise UncompactedError(
                    "the recording was withdrawn but still shares a segment with others; run "
                    "`sleepfm-index compact`, then build with --readmit"
                )
        return replace(
            self,
            segments=kept,
            deleted=deleted_within(self.deleted, kept),
            withdrawn=tuple(k for k in self.withdrawn if k[:32] != source[:32]),
            withdrawals=tuple(m for m in self.withdrawals if m not in marks),
        )

    @cached_property
    def _deleted_runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        first, last = np.array(self.deleted, np.int64).reshape(-1, 2).T
        return first, last

    def live(self, clip_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mask of the clips that are not deleted.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        """
        if not self.deleted:
            return np.ones(len(clip_ids), bool)
        first, last = self._deleted_runs
        run = np.searchsorted(first, clip_ids, side="right") - 1
        return np.asarray((run < 0) | (clip_ids > last[run]), dtype=bool)


def deleted_within(
    deleted: Iterable[tuple[int, int]], segments: Iterable[SegmentEntry]
) -> tuple[tuple[int, int], ...]:
    """Restrict ranges of deleted clips to segments; a range may span several segments.

    Parameters
    ----------
    deleted : iterable of (int, int)
        First and last clip id of each range, both inclusive.
    segments : iterable of SegmentEntry
        Segments whose clips remain in the ranges.
    """
    cut = (
        (max(a, s.first_clip_id), min(b, s.last_clip_id))
        for (a, b), s in itertools.product(deleted, segments)
    )
    return tuple(sorted((a, b) for a, b in cut if a <= b))


def as_ranges(clip_ids: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Convert ascending ids to ``(first, last)`` runs, both inclusive.

    Parameters
    ----------
    clip_ids : ndarray of int64, shape [n]
        Ascending clip ids.
    """
    if not len(clip_ids):
        return []
    breaks = np.flatnonzero(np.diff(clip_ids) != 1)
    first = clip_ids[np.r_[0, breaks + 1]]
    last = clip_ids[np.r_[breaks, len(clip_ids) - 1]]
    return list(zip(first.tolist(), last.tolist(), strict=True))


def read_manifest(store: Path, name: str = paths.MANIFEST) -> Manifest:
    """Read and check ``manifest.json``, or an earlier manifest under another name.

    Parameters
    ----------
    store : Path
        The store's folder.
    name : str
        Name of the manifest file, relative to the store's folder.

    Raises
    ------
    FormatError
        If the file is missing, damaged or too large, or has an unknown format or feature.
    """
    path = store / name
    try:
        plain = read_json(path, _MAX_BYTES)
    except FileNotFoundError:
        raise FormatError(
            f"no store at {store}; create one with `sleepfm-index build` or pass --store"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise FormatError(f"{path} is not the manifest of a sleepfm-index store")
    version = plain.get("format_version")
    if version != FORMAT_VERSION:
        raise FormatError(
            f"the store has format version {version}; this program reads {FORMAT_VERSION}: "
            "upgrade sleepfm-index"
        )
    features = plain.get("features")
    if not isinstance(features, list):
        raise FormatError(f"{path} is damaged: no list of features")
    unknown = set(map(str, features)) - FEATURES
    if unknown:
        raise FormatError(
            "the store uses features that this version does not support: "
            f"{', '.join(sorted(unknown))}; upgrade sleepfm-index"
        )
    try:
        return _from_json(plain)
    except (KeyError, TypeError, ValueError, AttributeError, WeightsError) as error:
        raise FormatError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Replace ``manifest.json`` atomically; on return the commit is durable.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The manifest to publish.
    """
    text = _to_text(manifest)
    publish_file(store / paths.MANIFEST, lambda sink: sink.write(text.encode()))


def _to_text(manifest: Manifest) -> str:
    # One line per segment and key: readable, and fast to write.
    plain = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "snapshot": manifest.snapshot,
        "uuid": manifest.uuid,
        "features": manifest.features,
        "weights": asdict(manifest.weights),
        "contract": manifest.contract.to_json(),
        "contract_sha256": manifest.contract.sha256,
        "next_clip_id": manifest.next_clip_id,
        "deleted": manifest.deleted,
        "withdrawn": manifest.withdrawn,
        "withdrawals": manifest.withdrawals,
        "choices": manifest.choices.to_json(),
        "written": manifest.written,
        "tags": dict(manifest.tags),
        "indexes": [index.to_json() for index in manifest.indexes],
    }
    if manifest.row_cache is not None:
        plain["row_cache"] = asdict(manifest.row_cache)
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in plain.items()]
    segments = ",\n".join(segment.line for segment in manifest.segments)
    body = "{" + ",\n".join([*lines, f'"segments": [\n{segments}\n]'])
    return f'{body},\n"sha256": "{hashlib.sha256(body.encode()).hexdigest()}"}}\n'


def _from_json(plain: Mapping[str, Any]) -> Manifest:
    contract = Contract.from_json(plain["contract"])
    if contract.sha256 != plain["contract_sha256"]:
        raise ValueError("the contract does not match its hash")
    segments = tuple(segment_entry(s) for s in plain["segments"])
    indexes = tuple(index_entry(i) for i in plain["indexes"] if i["kind"] != _CLIP_ROWS)
    # Earlier versions list the row cache among the indexes.
    earlier = next((i for i in plain["indexes"] if i["kind"] == _CLIP_ROWS), None)
    cache = plain.get("row_cache") or earlier
    manifest = Manifest(
        uuid=str(plain["uuid"]),
        weights=WeightsIdentity(**plain["weights"]),
        contract=contract,
        snapshot=count(plain["snapshot"]),
        next_clip_id=count(plain["next_clip_id"]),
        segments=segments,
        indexes=indexes,
        row_cache=None if cache is None else row_cache_entry(cache),
        deleted=tuple((count(a), count(b)) for a, b in plain["deleted"]),
        withdrawn=strings(plain["withdrawn"]),
        withdrawals=strings(plain.get("withdrawals", [])),
        choices=Choices.from_json(plain["choices"]) if "choices" in plain else BEFORE_GRIDS,
        written=seconds(plain.get("written", 0.0)),
        tags={safe_name(name): count(n) for name, n in plain.get("tags", {}).items()},
    )
    _check_ids(manifest)
    return manifest


def _check_ids(manifest: Manifest) -> None:
    # Ranges of segments, and of deleted clips, must not overlap and must fit their rows.
    if manifest.next_clip_id > MAX_CLIPS:
        raise ValueError(f"{manifest.next_clip_id} clips are more than a store can hold")
    ranges = sorted((s.first_clip_id, s.last_clip_id, s.rows) for s in manifest.segments)
    for known in (ranges, [(a, b, b - a + 1) for a, b in manifest.deleted]):
        end = 0
        for first, last, rows in known:
            if not end <= first <= last < manifest.next_clip_id or rows > last - first + 1:
                raise ValueError(f"clip ids {first} to {last} overlap or were never assigned")
            end = last + 1
    if manifest.rows < 0 or not all(s.rows for s in manifest.segments):
        raise ValueError("a segment without clips, or more deleted clips than stored ones")
