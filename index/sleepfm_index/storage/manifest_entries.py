"""Entries of a manifest: segments, indexes, the row cache, with their JSON form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

from sleepfm_index.storage.files import FileEntry

_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True)
class WeightsIdentity:
    """Identity of weights: name, SHA-256, and whether they were trained.

    Parameters
    ----------
    name : str
        Name of the weights.
    sha256 : str
        Hexadecimal digest of the weights.
    trained : bool
        Whether they were ever trained.
    note : str
        Warning, where they are untrained or trained on simulated data.
    """

    name: str
    sha256: str
    trained: bool
    note: str = ""


@dataclass(frozen=True)
class SegmentEntry:
    """One segment: folder name, number of rows, files and source recordings.

    Parameters
    ----------
    id : str
        Name of the segment's folder.
    rows : int
        Number of clips.
    first_clip_id, last_clip_id : int
        Smallest and largest clip id.
    sources : tuple of str
        Content keys of the recordings.
    columns : tuple of str
        Subject columns that are not part of the schema, as ``name:type``.
    files : mapping of str to FileEntry
        Files of the segment, by name.
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
class SearchSetting:
    """Search parameters of an index for at least a share of allowed clips.

    Parameters
    ----------
    share : float
        Smallest share of allowed clips for which the setting holds, 0 to 1. Below the smallest
        share of an index, search is exact.
    depth : int
        Number of candidates that are scored again with the stored vectors, for ten results.
    parameters : mapping of str to int
        Search parameters of this kind of index, for example ``{"probes": 16}``.
    """

    share: float
    depth: int
    parameters: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the setting as one flat JSON object."""
        return {"share": self.share, **self.parameters, "depth": self.depth}


@dataclass(frozen=True)
class Recall:
    """Recall of an index, measured with queries of other modalities.

    Parameters
    ----------
    goal : float
        The recall@10 that calibration aimed at.
    at_1, at_10 : tuple of float
        Recall@1 and recall@10: estimate, and lower and upper bound of the 95 % interval.
    queries : int
        Number of queries; none of them was used to choose the search settings.
    clips : int
        Number of clips with the target over which the exact result was computed.
    """

    goal: float
    at_1: tuple[float, float, float]
    at_10: tuple[float, float, float]
    queries: int
    clips: int

    def to_json(self) -> dict[str, Any]:
        """Return the recall as a JSON object; its key ``asked`` holds the goal."""
        plain = asdict(self)
        return {"asked": plain.pop("goal"), **plain}


@dataclass(frozen=True)
class IndexEntry:
    """One index file: a cache that can be rebuilt from the vectors of the segments it covers.

    Parameters
    ----------
    target : str
        Search target: a modality, or ``others_of_<modality>``.
    file : str
        Name of the file in ``indexes/``.
    kind : str
        Kind of index, such as ``IVF256,SQ8`` or ``HNSW32``.
    rows : int
        Number of vectors.
    segments : tuple of str
        Names of the segments that the index covers.
    entry : FileEntry
        Size and hash of the file.
    settings : tuple of SearchSetting
        Search settings, by descending share; an index without settings is not searched.
    recall : Recall, optional
        Measured recall.
    """

    target: str
    file: str
    kind: str
    rows: int
    segments: tuple[str, ...]
    entry: FileEntry
    settings: tuple[SearchSetting, ...] = ()
    recall: Recall | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the entry as a JSON object; its key ``probing`` holds the settings."""
        plain = asdict(self)
        del plain["settings"]
        if self.recall is not None:
            plain["recall"] = self.recall.to_json()
        return plain | {"probing": [setting.to_json() for setting in self.settings]}


@dataclass(frozen=True)
class RowCacheEntry:
    """The file of the row cache (:mod:`.row_cache`), which holds metadata rows of segments.

    Parameters
    ----------
    file : str
        Name of the file.
    rows : int
        Number of clips.
    segments : tuple of str
        Names of the segments that the cache covers.
    entry : FileEntry
        Size and hash of the file.
    """

    file: str
    rows: int
    segments: tuple[str, ...]
    entry: FileEntry


def segment_entry(plain: Mapping[str, Any]) -> SegmentEntry:
    """Read and check the entry of a segment.

    Parameters
    ----------
    plain : mapping
        The entry as parsed from the manifest's JSON.
    """
    return SegmentEntry(
        id=safe_name(plain["id"]),
        rows=count(plain["rows"]),
        first_clip_id=count(plain["first_clip_id"]),
        last_clip_id=count(plain["last_clip_id"]),
        sources=strings(plain["sources"]),
        columns=strings(plain["columns"]),
        files={safe_name(name): _entry(e) for name, e in plain["files"].items()},
    )


def index_entry(plain: Mapping[str, Any]) -> IndexEntry:
    """Read and check the entry of an index.

    Parameters
    ----------
    plain : mapping
        The entry as parsed from the manifest's JSON.
    """
    return IndexEntry(
        target=str(plain["target"]),
        file=safe_name(plain["file"]),
        kind=str(plain["kind"]),
        rows=count(plain["rows"]),
        segments=strings(plain["segments"]),
        entry=_entry(plain["entry"]),
        settings=tuple(_setting(p) for p in plain.get("probing", ())),
        recall=_recall(plain.get("recall")),
    )


def row_cache_entry(plain: Mapping[str, Any]) -> RowCacheEntry:
    """Read and check the entry of the row cache.

    Parameters
    ----------
    plain : mapping
        The entry as parsed from the manifest's JSON.
    """
    return RowCacheEntry(
        file=safe_name(plain["file"]),
        rows=count(plain["rows"]),
        segments=strings(plain["segments"]),
        entry=_entry(plain["entry"]),
    )


def count(value: object) -> int:
    """Check a count.

    Parameters
    ----------
    value : object
        As read from JSON.

    Raises
    ------
    ValueError
        If the value is not an integer, or is negative.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"not a count: {value!r}")
    return value


def strings(value: object) -> tuple[str, ...]:
    """Check a list of strings.

    Parameters
    ----------
    value : object
        As read from JSON.

    Raises
    ------
    ValueError
        If the value is not a list of strings.
    """
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"not a list of strings: {value!r:.80}")
    return tuple(value)


def seconds(value: object) -> float:
    """Check a time in seconds since 1970.

    Parameters
    ----------
    value : object
        As read from JSON.

    Raises
    ------
    ValueError
        If the value is not a number in the valid range.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1e11:
        raise ValueError(f"not a time in seconds since 1970: {value!r}")
    return float(value)


def _setting(plain: Mapping[str, Any]) -> SearchSetting:
    parameters = {str(k): count(v) for k, v in plain.items() if k not in ("share", "depth")}
    return SearchSetting(_share(plain["share"]), count(plain["depth"]), parameters)


def _recall(plain: Mapping[str, Any] | None) -> Recall | None:
    if plain is None:
        return None
    at_1, at_10 = (tuple(map(_share, plain[name])) for name in ("at_1", "at_10"))
    if len(at_1) != 3 or len(at_10) != 3:
        raise ValueError("a recall is an estimate, a low and a high")
    return Recall(
        goal=_share(plain["asked"]),
        at_1=(at_1[0], at_1[1], at_1[2]),
        at_10=(at_10[0], at_10[1], at_10[2]),
        queries=count(plain["queries"]),
        clips=count(plain["clips"]),
    )


def _entry(plain: Mapping[str, Any]) -> FileEntry:
    return FileEntry(count(plain["bytes"]), str(plain["sha256"]))


def _share(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"not a share of one: {value!r}")
    return float(value)


def safe_name(name: object) -> str:
    """Check a plain file name: no separator and no leading dot, so that it stays in the store.

    Parameters
    ----------
    name : object
        As read from JSON.

    Raises
    ------
    ValueError
        If the value is not a plain file name.
    """
    if not isinstance(name, str) or not _SAFE_NAME.fullmatch(name):
        raise ValueError(f"not a plain file name: {name!r}")
    return name
