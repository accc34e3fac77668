"""User labels of clips: label columns in addition to the scored stages and events.

A label column is one file of the store, ``labels/<column>.jsonl``, with one JSON object per line:
``clip_id``, ``value`` (text, or null if a label is withdrawn), ``by`` (name), ``at`` (time in UTC,
ISO 8601) and ``sha256``, a checksum of the line. Lines are only appended, and the last line of a
clip counts, so the history is preserved. They are appended under a lock and synced; a last line
that a crash left incomplete is skipped. Any other line that is not as it was written is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from filelock import FileLock
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.storage.files import make_folder, publish_file
from sleepfm_index.storage.line_files import append_lines
from sleepfm_index.storage.manifest import MAX_CLIPS
from sleepfm_index.storage.paths import LABELS as FOLDER
from sleepfm_index.storage.plain_files import check_folder, read_plain

LABEL_COLUMNS: Final = pa.schema(
    [
        ("clip_id", pa.int32()),
        ("label", pa.string()),
        ("value", pa.string()),
        ("labelled_by", pa.string()),
        ("labelled_at", pa.string()),
    ]
)
"""Columns of the view ``labels`` in SQL; ``label`` is the name of the label column."""

_LOCK: Final = ".lock"
_KEYS: Final = frozenset({"clip_id", "value", "by", "at"})
_CHECKED: Final = re.compile(rb'(.*), "sha256": "([0-9a-f]{16})"}', re.DOTALL)
_LARGEST: Final = 1 << 30
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MAX_LENGTH: Final = 200
_within = threading.Lock()


@dataclass(frozen=True)
class Label:
    """A label of a clip, with author and time.

    Parameters
    ----------
    value : str
        The label.
    by : str
        Name or initials of the labeller.
    at : str
        Time in UTC, ISO 8601.
    """

    value: str
    by: str
    at: str


def append_labels(
    store: Path, column: str, clip_ids: Sequence[int], value: str | None, by: str
) -> str:
    """Label clips in a label column; all of them, or none if it fails. A crash may leave the first.

    Parameters
    ----------
    store : Path
        The store's folder.
    column : str
        Name of the label column: lower-case letters, digits and ``_``.
    clip_ids : sequence of int
        Clips to label.
    value : str, optional
        The label; None withdraws it.
    by : str
        Name or initials of the labeller.

    Returns
    -------
    str
        Time of the label in UTC, ISO 8601.

    Raises
    ------
    QueryError
        If the column's name is not valid, the label is not one line, or the name is missing.
    """
    by = by.strip()
    if not by or len(by) > _MAX_LENGTH or not by.isprintable():
        raise QueryError("pass the name or initials of the person who labels, in one line")
    if value is not None and not (
        value.strip() and len(value) <= _MAX_LENGTH and value.isprintable()
    ):
        raise QueryError(f"a label is one line of 1 to {_MAX_LENGTH} characters")
    if not _NAME.fullmatch(column):
        raise QueryError(
            f"{column[:80]!r} is not a valid column for labels; use lower-case letters, digits "
            "and _"
        )
    time = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    fields = {"value": value, "by": by, "at": time}
    _append(store, column, b"".join(_line({"clip_id": int(clip), **fields}) for clip in clip_ids))
    return time


def read_labels(store: Path, column: str) -> dict[int, Label]:
    """Return the current labels of a label column, by clip id.

    Parameters
    ----------
    store : Path
        The store's folder.
    column : str
        Name of the label column.

    Raises
    ------
    QueryError
        If the column does not exist.
    FormatError
        If a line is not as it was written.
    """
    path = _folder(store) / f"{column}.jsonl"
    if not _NAME.fullmatch(column) or path.is_symlink() or not path.is_file():
        known = ", ".join(label_columns(store)) or "none yet"
        raise QueryError(f"no label column {column[:80]!r}; choose from {known}")
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


def label_columns(store: Path) -> list[str]:
    """List the names of the label columns.

    Parameters
    ----------
    store : Path
        The store's folder.
    """
    folder = store / FOLDER
    if folder.is_symlink():
        return []
    names = (p.stem for p in folder.glob("*.jsonl") if p.is_file() and not p.is_symlink())
    return sorted(name for name in names if _NAME.fullmatch(name))


def label_table(store: Path) -> pa.Table:
    """Return the current labels, one row per clip and label column.

    Parameters
    ----------
    store : Path
        The store's folder.

    Returns
    -------
    pyarrow.Table
        Table of :data:`LABEL_COLUMNS`, without label columns that this account may not read.

    Raises
    ------
    FormatError
        If a line is not as it was written.
    """
    tables = [LABEL_COLUMNS.empty_table()]
    for column in label_columns(store):
        path = store / FOLDER / f"{column}.jsonl"
        with contextlib.suppress(FileNotFoundError, PermissionError):
            stat = path.stat()
            tables.append(_table(path, stat.st_mtime_ns, stat.st_size))
    return pa.concat_tables(tables)


def keep_labels(store: Path, keep: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> None:
    """Remove the labels of deleted clips.

    Parameters
    ----------
    store : Path
        The store's folder.
    keep : callable
        Function that maps clip ids, int64 [n], to the mask of clips that stay, bool [n].

    Raises
    ------
    FormatError
        If a line is not as it was written, so that its clip is not known.
    """
    for column in label_columns(store):
        with _locked(store):
            entries = _entries(store / FOLDER / f"{column}.jsonl")
            stay = keep(np.array([entry["clip_id"] for entry in entries], np.int64))
            if not bool(np.all(stay)):
                _write(store, column, [e for e, s in zip(entries, stay, strict=True) if s])


def check_labels(store: Path, column: str | None = None) -> None:
    """Refuse labels that are not as they were written.

    Parameters
    ----------
    store : Path
        The store's folder.
    column : str, optional
        Name of the label column; by default all.

    Raises
    ------
    FormatError
        If a line is damaged. Files that cannot be read are skipped.
    """
    for name in label_columns(store) if column is None else [column]:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            _entries(store / FOLDER / f"{name}.jsonl")


def drop_damaged_labels(store: Path, column: str, copy: Path) -> None:
    """Remove the damaged lines of a label column, and copy the original file to ``copy``.

    Parameters
    ----------
    store : Path
        The store's folder.
    column : str
        Name of the label column.
    copy : Path
        Path of the copy.
    """
    with _locked(store):
        content = read_plain(store / FOLDER / f"{column}.jsonl", _LARGEST)
        publish_file(copy, lambda sink: sink.write(content))
        _write(store, column, [entry for entry in _sound(content.split(b"\n")) if entry])


def _write(store: Path, column: str, entries: Sequence[Mapping[str, Any]]) -> None:
    text = b"".join(map(_line, entries))
    publish_file(store / FOLDER / f"{column}.jsonl", lambda sink: sink.write(text))


def _folder(store: Path) -> Path:
    return check_folder(store / FOLDER)


def _locked(store: Path) -> FileLock:
    make_folder(_folder(store))
    lock = store / FOLDER / _LOCK
    if lock.is_symlink():
        raise FormatError(f"{lock} is a symbolic link, which a store does not allow")
    return FileLock(lock, timeout=30, mode=0o600)


def _append(store: Path, column: str, lines: bytes) -> None:
    with _within, _locked(store):
        path = store / FOLDER / f"{column}.jsonl"
        append_lines(path, lines, lambda last: not _is_cut_short(last))


@lru_cache(maxsize=32)
def _read(path: Path, _changed: int, _size: int) -> dict[int, Label]:
    labels: dict[int, Label] = {}
    for entry in _entries(path):
        clip, value = entry["clip_id"], entry["value"]
        if value is None:
            labels.pop(clip, None)
        else:
            labels[clip] = Label(value, entry["by"], entry["at"])
    return labels


@lru_cache(maxsize=32)
def _table(path: Path, changed: int, size: int) -> pa.Table:
    labels = _read(path, changed, size)
    values = labels.values()
    columns = [
        list(labels),
        [path.stem] * len(labels),
        [label.value for label in values],
        [label.by for label in values],
        [label.at for label in values],
    ]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, LABEL_COLUMNS, strict=True)],
        schema=LABEL_COLUMNS,
    )


def _line(entry: Mapping[str, Any]) -> bytes:
    plain = {name: entry[name] for name in ("clip_id", "value", "by", "at")}
    body = json.dumps(plain, ensure_ascii=False)[:-1].encode()
    return body + b', "sha256": "%s"}\n' % _checksum(body)


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def _entries(path: Path) -> list[dict[str, Any]]:
    content = read_plain(path, _LARGEST)
    if len(content) > _LARGEST:
        raise FormatError(f"{path} is larger than {_LARGEST >> 30} GB")
    *lines, last = content.split(b"\n")
    if last and not _is_cut_short(last):
        lines.append(last)
    entries = []
    for number, entry in enumerate(_sound(lines), start=1):
        if entry is None:
            raise FormatError(
                f"line {number} of {path} is not as it was written; `sleepfm-index verify "
                "--repair` keeps the other lines"
            )
        entries.append(entry)
    return entries


def _sound(lines: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
    """Yield the entry of each line; None for one that is not as it was written.

    Lines without a checksum are those of an earlier program, and it wrote none after this one.
    """
    checked = False
    for line in lines:
        entry = _entry(line)
        if entry is not None:
            checked |= "sha256" in entry
        yield entry if entry is not None and ("sha256" in entry or not checked) else None


def _is_cut_short(last: bytes) -> bool:
    """Whether a line without its end is the beginning of one; it was never acknowledged."""
    return _CHECKED.match(last) is None and _entry(last) is None


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return a line's entry; None if it is not as it was written."""
    checked = _CHECKED.fullmatch(line)
    if checked and _checksum(checked[1]) != checked[2]:
        return None
    try:
        entry: dict[str, Any] = json.loads(line)
        ok = type(entry["clip_id"]) is int and 0 <= entry["clip_id"] < MAX_CLIPS
        value = "" if entry["value"] is None else entry["value"]
        "".join((value, entry["by"], entry["at"])).encode()  # texts, and no lone surrogates
        ok = ok and entry.keys() == (_KEYS | {"sha256"} if checked else _KEYS)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return entry if ok else None
