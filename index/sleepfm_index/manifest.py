"""The manifest: the only mutable file of a store. Replacing it is the commit point."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sleepfm.contract import Contract
from sleepfm.errors import WeightsError
from sleepfm_index.disk import FileEntry, publish_file
from sleepfm_index.errors import FormatError

FILE_NAME: Final = "manifest.json"
FORMAT: Final = "sleepfm-index store"
FORMAT_VERSION: Final = 1
FEATURES: Final[frozenset[str]] = frozenset()
"""Feature flags this version understands; a store with any other is refused."""

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


@dataclass(frozen=True)
class IndexEntry:
    """One FAISS file: a cache that can be rebuilt from the vectors of the segments it covers."""

    target: str
    file: str
    kind: str
    rows: int
    segments: tuple[str, ...]
    entry: FileEntry


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
    features: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        """Clips in all segments, deleted ones left out."""
        return sum(s.rows for s in self.segments) - sum(b - a + 1 for a, b in self.deleted)

    @property
    def sources(self) -> frozenset[str]:
        """Content keys of every recording in the store."""
        return frozenset(key for segment in self.segments for key in segment.sources)

    def with_segment(self, segment: SegmentEntry) -> Manifest:
        """Give the manifest with one segment more and the clip ids moved on."""
        return replace(
            self,
            segments=(*self.segments, segment),
            next_clip_id=max(self.next_clip_id, segment.last_clip_id + 1),
        )


def read_manifest(store: Path) -> Manifest:
    """Read and check ``manifest.json``.

    Raises
    ------
    FormatError
        If there is none, it is damaged, names a path outside the store, or is of a format or has a
        feature that this version does not know.
    """
    path = store / FILE_NAME
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError(
            f"no store at {store}; make one with `sleepfm-index build` or name another by --store"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise FormatError(f"{path} is not the manifest of a sleepfm-index store")
    version = plain.get("format_version")
    if version != FORMAT_VERSION:
        raise FormatError(
            f"the store is of format version {version}, this program reads {FORMAT_VERSION}; "
            "upgrade sleepfm-index"
        )
    unknown = set(map(str, plain.get("features", []))) - FEATURES
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
    text = json.dumps(_to_json(manifest), indent=1)
    publish_file(store / FILE_NAME, lambda path: _write_text(path, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def _to_json(manifest: Manifest) -> dict[str, Any]:
    plain = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(manifest)}
    plain["contract"] = manifest.contract.to_json()
    plain["contract_sha256"] = manifest.contract.sha256
    return plain


def _from_json(plain: Mapping[str, Any]) -> Manifest:
    contract = Contract.from_json(plain["contract"])
    if contract.sha256 != plain["contract_sha256"]:
        raise ValueError("the contract does not match its hash")
    segments = tuple(
        SegmentEntry(
            id=_safe(s["id"]),
            rows=_count(s["rows"]),
            first_clip_id=_count(s["first_clip_id"]),
            last_clip_id=_count(s["last_clip_id"]),
            sources=tuple(map(str, s["sources"])),
            columns=tuple(map(str, s["columns"])),
            files={_safe(name): _entry(e) for name, e in s["files"].items()},
        )
        for s in plain["segments"]
    )
    indexes = tuple(
        IndexEntry(
            target=str(i["target"]),
            file=_safe(i["file"]),
            kind=str(i["kind"]),
            rows=_count(i["rows"]),
            segments=tuple(map(str, i["segments"])),
            entry=_entry(i["entry"]),
        )
        for i in plain["indexes"]
    )
    return Manifest(
        uuid=str(plain["uuid"]),
        weights=WeightsIdentity(**plain["weights"]),
        contract=contract,
        snapshot=_count(plain["snapshot"]),
        next_clip_id=_count(plain["next_clip_id"]),
        segments=segments,
        indexes=indexes,
        deleted=tuple((_count(a), _count(b)) for a, b in plain["deleted"]),
        features=tuple(map(str, plain["features"])),
    )


def _entry(plain: Mapping[str, Any]) -> FileEntry:
    return FileEntry(_count(plain["bytes"]), str(plain["sha256"]))


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"not a count: {value!r}")
    return value


def _safe(name: object) -> str:
    # One plain name: no separator, no leading dot, so that no entry leads out of the store.
    text = str(name)
    if PurePosixPath(text).name != text or not _SAFE_NAME.fullmatch(text):
        raise ValueError(f"not a plain file name: {text!r}")
    return text
