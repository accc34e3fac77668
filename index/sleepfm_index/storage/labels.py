"""User labels of clips: label columns in addition to the scored stages and events.

A label column is one file of the store, ``labels/<column>.jsonl``, with one JSON object per line:
``clip_id``, ``value`` (text, or null if a label is withdrawn), ``by`` (name) and ``at`` (time in
UTC, ISO 8601). Lines are only appended, and the last line of a clip counts, so the history is
preserved. They are appended under a lock and synced; a line that a crash left incomplete is
skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from filelock import FileLock
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.storage.files import make_folder, publish_file, sync_folder
from sleepfm_index.storage.manifest import MAX_CLIPS
from sleepfm_index.storage.modes import open_file_as
from sleepfm_index.storage.paths import LABELS as FOLDER

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
    """Label clips in a label column; all of them, or none if it fails.

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
    lines = [
        json.dumps({"clip_id": int(clip), "value": value, "by": by, "at": time}, ensure_ascii=False)
        for clip in clip_ids
    ]
    _append(store, column, "".join(line + "\n" for line in lines).encode())
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
        If there is no such column.
    """
    path = store / FOLDER / f"{column}.jsonl"
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
    """
    for column in label_columns(store):
        with _locked(store):
            path = store / FOLDER / f"{column}.jsonl"
            entries = _entries(path)
            stay = keep(np.array([entry["clip_id"] for entry in entries], np.int64))
            if bool(np.all(stay)):
                continue
            lines = [
                json.dumps(e, ensure_ascii=False) for e, s in zip(entries, stay, strict=True) if s
            ]
            text = "".join(line + "\n" for line in lines).encode()
            publish_file(path, lambda sink, text=text: sink.write(text))  # type: ignore[misc]


def _locked(store: Path) -> FileLock:
    make_folder(store / FOLDER)
    return FileLock(store / FOLDER / _LOCK, timeout=30, mode=0o600)


def _append(store: Path, column: str, lines: bytes) -> None:
    with _within, _locked(store):
        path = store / FOLDER / f"{column}.jsonl"
        new = not path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(path, flags, 0o600)
        open_file_as(path.parent, handle)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                lines = b"\n" + lines  # terminate a line that a crash left incomplete
            done = 0
            try:
                while done < len(lines):
                    done += os.write(handle, lines[done:])
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, size)  # all of them, or none
                raise
        finally:
            os.close(handle)
        if new:
            sync_folder(path.parent)


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


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = []
    for line in path.read_bytes().split(b"\n"):
        try:
            entry = json.loads(line)
            ok = type(entry["clip_id"]) is int and 0 <= entry["clip_id"] < MAX_CLIPS
            value = "" if entry["value"] is None else entry["value"]
            "".join(
                (value, entry["by"], entry["at"])
            ).encode()  # all are texts without lone surrogates
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if ok:
            entries.append(entry)
    return entries
