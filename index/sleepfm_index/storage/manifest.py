"""The manifest: the only mutable file of a store. Replacing it is the commit point."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.contract import Contract
from sleepfm.errors import WeightsError
from sleepfm_index.errors import FormatError
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import FileEntry, publish_file

FORMAT: Final = "sleepfm-index store"
FORMAT_VERSION: Final = 1
INVERTED_LISTS: Final = "inverted-lists"
FEATURES: Final = frozenset({INVERTED_LISTS})
"""Feature flags this version understands; a store with any other is refused."""

_LARGEST: Final = 1 << 28
"""Bytes; 14,000 segments take about 20 MB."""
_MOST_CLIPS: Final = 1 << 31
"""Clip ids stay below this (two million nights), so a hostile count cannot ask for all memory."""
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True)
class WeightsIdentity:
    """Which weights made the vectors: name, SHA-256, and whether they were ever trained."""

    name: str
    sha256: str
    trained: bool
    note: str = ""


@dataclass(frozen=True)
class SegmentEntry:
    """One segment: its folder's name, its rows, its files, and the sources it came from.

    ``first_clip_id`` and ``last_clip_id`` bound the clip ids in it, both included. ``columns``
    are the subject columns beyond the schema's own.
    """

    id: str
    rows: int
    first_clip_id: int
    last_clip_id: int
    sources: tuple[str, ...]
    columns: tuple[str, ...]
    files: Mapping[str, FileEntry]

    @cached_property
    def line(self) -> str:
        """The segment as JSON, kept because every commit writes it again."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Probing:
    """How far an index is searched where at least a share of the clips is allowed.

    Parameters
    ----------
    share : float
        Of the clips, in 0 to 1. Below the smallest share of an index, search is exact.
    probes : int
        Lists that are read.
    depth : int
        Candidates that are scored again from the vectors, for ten answers.
    """

    share: float
    probes: int
    depth: int


@dataclass(frozen=True)
class Recall:
    """What an index finds of the exact answer, measured with queries of other modalities.

    Parameters
    ----------
    asked : float
        The recall@10 that the search was set to reach.
    at_1, at_10 : tuple of (estimate, low, high)
        With the 95 % interval.
    queries : int
        How many were asked; none of them chose how the index is searched.
    clips : int
        Clips of the target among which the exact answer was found.
    """

    asked: float
    at_1: tuple[float, float, float]
    at_10: tuple[float, float, float]
    queries: int
    clips: int


@dataclass(frozen=True)
class IndexEntry:
    """One index file: a cache that can be rebuilt from the vectors of the segments it covers.

    ``probing`` is in order of falling shares; without it the index is not searched.
    """

    target: str
    file: str
    kind: str
    rows: int
    segments: tuple[str, ...]
    entry: FileEntry
    probing: tuple[Probing, ...] = ()
    recall: Recall | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything a reader needs to know before it opens another file."""

    uuid: str
    weights: WeightsIdentity
    contract: Contract
    snapshot: int = 0
    next_clip_id: int = 0
    segments: tuple[SegmentEntry, ...] = ()
    indexes: tuple[IndexEntry, ...] = ()
    deleted: tuple[tuple[int, int], ...] = ()
    withdrawn: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Clips in all segments, deleted ones left out."""
        return sum(s.rows for s in self.segments) - sum(b - a + 1 for a, b in self.deleted)

    @cached_property
    def sources(self) -> frozenset[str]:
        """Content keys of every recording in the store, withdrawn ones left out."""
        keys = {key for segment in self.segments for key in segment.sources}
        return frozenset(keys.difference(self.withdrawn))

    @property
    def features(self) -> tuple[str, ...]:
        """What a program must know to read the store, beyond the format's version."""
        return (INVERTED_LISTS,) if any(i.kind.startswith("IVF") for i in self.indexes) else ()

    @property
    def stored_ids(self) -> int:
        """Clip ids of the segments lie below this; at most ``next_clip_id``."""
        return max((s.last_clip_id + 1 for s in self.segments), default=0)

    @property
    def names(self) -> tuple[frozenset[str], frozenset[str]]:
        """Folders in ``segments/`` and files in ``indexes/`` that belong to the snapshot."""
        return frozenset(s.id for s in self.segments), frozenset(i.file for i in self.indexes)

    def with_segment(self, segment: SegmentEntry) -> Manifest:
        """Give the manifest with one segment more and the clip ids moved on."""
        return replace(
            self,
            segments=(*self.segments, segment),
            next_clip_id=max(self.next_clip_id, segment.last_clip_id + 1),
        )

    def without_clips(self, clip_ids: NDArray[np.int64], withdrawn: tuple[str, ...]) -> Manifest:
        """Give the manifest with clips of the store (ascending ids) and recordings hidden."""
        ranges = sorted([*self.deleted, *as_ranges(clip_ids)])
        merged: list[tuple[int, int]] = []
        for first, last in ranges:
            if merged and merged[-1][1] + 1 == first:
                first = merged.pop()[0]
            merged.append((first, last))
        keys = dict.fromkeys([*self.withdrawn, *withdrawn])
        return replace(self, deleted=tuple(merged), withdrawn=tuple(keys))

    def live(self, clip_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the given clips are not deleted."""
        if not self.deleted:
            return np.ones(len(clip_ids), bool)
        first, last = np.array(self.deleted, np.int64).T
        at = np.searchsorted(first, clip_ids, side="right") - 1
        return np.asarray((at < 0) | (clip_ids > last[at]), dtype=bool)


def as_ranges(clip_ids: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Write ascending ids as ``(first, last)`` runs, both included."""
    if not len(clip_ids):
        return []
    breaks = np.flatnonzero(np.diff(clip_ids) != 1)
    first = clip_ids[np.r_[0, breaks + 1]]
    last = clip_ids[np.r_[breaks, len(clip_ids) - 1]]
    return list(zip(first.tolist(), last.tolist(), strict=True))


def read_manifest(store: Path, name: str = paths.MANIFEST) -> Manifest:
    """Read and check ``manifest.json``, or an earlier one kept under another name.

    Raises
    ------
    FormatError
        If there is none, it is damaged, names a path outside the store, or is of a format or has a
        feature that this version does not know.
    """
    path = store / name
    try:
        if path.is_symlink() or path.stat().st_size > _LARGEST:
            raise FormatError(f"{path} is a link or larger than a manifest can be")
        plain = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FormatError(
            f"no store at {store}; make one with `sleepfm-index build` or name another by --store"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise FormatError(f"{path} is not the manifest of a sleepfm-index store")
    version = plain.get("format_version")
    if version != FORMAT_VERSION:
        raise FormatError(
            f"the store is of format version {version}, this program reads {FORMAT_VERSION}; "
            "upgrade sleepfm-index"
        )
    features = plain.get("features")
    if not isinstance(features, list):
        raise FormatError(f"{path} is damaged: no list of features")
    unknown = set(map(str, features)) - FEATURES
    if unknown:
        raise FormatError(
            f"the store uses features this program does not know: {', '.join(sorted(unknown))}; "
            "upgrade sleepfm-index"
        )
    try:
        return _from_json(plain)
    except (KeyError, TypeError, ValueError, AttributeError, WeightsError) as error:
        raise FormatError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Replace ``manifest.json`` in one step; when it returns, the commit is durable."""
    text = _to_text(manifest)
    publish_file(store / paths.MANIFEST, lambda sink: sink.write(text.encode()))


def _to_text(manifest: Manifest) -> str:
    # One line a segment and a key: to be read by people, and quick to write again.
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
        "indexes": [asdict(index) for index in manifest.indexes],
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in plain.items()]
    segments = ",\n".join(segment.line for segment in manifest.segments)
    return "{" + ",\n".join([*lines, f'"segments": [\n{segments}\n]']) + "}\n"


def _from_json(plain: Mapping[str, Any]) -> Manifest:
    contract = Contract.from_json(plain["contract"])
    if contract.sha256 != plain["contract_sha256"]:
        raise ValueError("the contract does not match its hash")
    segments = tuple(_segment(s) for s in plain["segments"])
    indexes = tuple(
        IndexEntry(
            target=str(i["target"]),
            file=_safe(i["file"]),
            kind=str(i["kind"]),
            rows=_count(i["rows"]),
            segments=tuple(map(str, i["segments"])),
            entry=_entry(i["entry"]),
            probing=tuple(_probing(p) for p in i.get("probing", ())),
            recall=_recall(i.get("recall")),
        )
        for i in plain["indexes"]
    )
    manifest = Manifest(
        uuid=str(plain["uuid"]),
        weights=WeightsIdentity(**plain["weights"]),
        contract=contract,
        snapshot=_count(plain["snapshot"]),
        next_clip_id=_count(plain["next_clip_id"]),
        segments=segments,
        indexes=indexes,
        deleted=tuple((_count(a), _count(b)) for a, b in plain["deleted"]),
        withdrawn=tuple(map(str, plain["withdrawn"])),
    )
    _check_ids(manifest)
    return manifest


def _segment(plain: Mapping[str, Any]) -> SegmentEntry:
    return SegmentEntry(
        id=_safe(plain["id"]),
        rows=_count(plain["rows"]),
        first_clip_id=_count(plain["first_clip_id"]),
        last_clip_id=_count(plain["last_clip_id"]),
        sources=tuple(map(str, plain["sources"])),
        columns=tuple(map(str, plain["columns"])),
        files={_safe(name): _entry(e) for name, e in plain["files"].items()},
    )


def _probing(plain: Mapping[str, Any]) -> Probing:
    return Probing(_share(plain["share"]), _count(plain["probes"]), _count(plain["depth"]))


def _recall(plain: Mapping[str, Any] | None) -> Recall | None:
    if plain is None:
        return None
    at_1, at_10 = (tuple(map(_share, plain[name])) for name in ("at_1", "at_10"))
    if len(at_1) != 3 or len(at_10) != 3:
        raise ValueError("a recall is an estimate, a low and a high")
    return Recall(
        asked=_share(plain["asked"]),
        at_1=(at_1[0], at_1[1], at_1[2]),
        at_10=(at_10[0], at_10[1], at_10[2]),
        queries=_count(plain["queries"]),
        clips=_count(plain["clips"]),
    )


def _check_ids(manifest: Manifest) -> None:
    # Segments' ranges follow each other and hold their rows; deleted ranges likewise.
    if manifest.next_clip_id > _MOST_CLIPS:
        raise ValueError(f"{manifest.next_clip_id} clips are more than a store can hold")
    ranges = sorted((s.first_clip_id, s.last_clip_id, s.rows) for s in manifest.segments)
    for known in (ranges, [(a, b, b - a + 1) for a, b in manifest.deleted]):
        end = 0
        for first, last, rows in known:
            if not end <= first <= last < manifest.next_clip_id or rows > last - first + 1:
                raise ValueError(f"clip ids {first} to {last} overlap others or were never given")
            end = last + 1
    if manifest.rows < 0 or not all(s.rows for s in manifest.segments):
        raise ValueError("a segment without clips, or more clips deleted than there are")


def _entry(plain: Mapping[str, Any]) -> FileEntry:
    return FileEntry(_count(plain["bytes"]), str(plain["sha256"]))


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"not a count: {value!r}")
    return value


def _share(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"not a share of one: {value!r}")
    return float(value)


def _safe(name: object) -> str:
    # One plain name: no separator, no leading dot, so that no entry leads out of the store.
    text = str(name)
    if not _SAFE_NAME.fullmatch(text):
        raise ValueError(f"not a plain file name: {text!r}")
    return text
