"""Deleting: clips disappear from every answer at once, in one commit.

Their bytes stay on the disk until ``compact``, or until the same call erases them. A recording of
which nothing is left is withdrawn: its samples are known again by a hash, so it does not come back
in silence under another name or with another scoring; nor does a person who was deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleepfm.csv_text import same_id
from sleepfm_index.errors import QueryError
from sleepfm_index.lifecycle.compact import Compaction, compact
from sleepfm_index.lifecycle.receipt import check_receipt, write_receipt
from sleepfm_index.reader import Reader
from sleepfm_index.storage.quoting import quote_text
from sleepfm_index.storage.withdrawals import signals_mark, subject_mark
from sleepfm_index.storage.writer import Writer


@dataclass(frozen=True)
class Deletion:
    """Result of a deletion.

    Parameters
    ----------
    clips : int
        Clips that are in no answer any more.
    withdrawn : tuple of str
        Recordings of which nothing is left.
    erased : Compaction or None
        What left the disk, where that was asked for.
    """

    clips: int
    withdrawn: tuple[str, ...]
    erased: Compaction | None = None


def delete(
    store: str | Path,
    *,
    subject: str | None = None,
    recording: str | None = None,
    where: str | None = None,
    now: bool = False,
    receipt: str | Path | None = None,
) -> Deletion:
    """Delete the clips of a subject, of a recording, or those for which a condition holds.

    Parameters
    ----------
    store : path
        The store's folder.
    subject, recording : str, optional
        A ``subject_id`` or ``recording_id``. A subject that is deleted is known again by a hash of
        the id: a build leaves out further recordings of that person.
    where : str, optional
        SQL condition over the columns of ``clips``. Exactly one of the three is given.
    now : bool
        Also take the clips off the disk: compact, remove earlier snapshots, and what ``verify`` put
        into ``quarantine/``.
    receipt : path, optional
        Write what was deleted, when, and which files were removed and written, with their hashes.

    Raises
    ------
    QueryError
        If not exactly one is given, the condition is not valid, or no clip matches.
    StoreError
        If the receipt cannot be written where it was asked for; nothing was deleted then.
    StoreLocked
        If another process is writing.
    """
    condition = _condition(subject, recording, where)
    path = Path(store)
    if receipt is not None:
        check_receipt(Path(receipt), path)
    with Writer(path) as writer, Reader(path) as opened:
        before = writer.manifest
        clip_ids = opened.metadata.clip_ids(condition)
        if not len(clip_ids):
            raise QueryError(f"no clip has {condition}; nothing was deleted")
        counts = opened.metadata.clips_of_recordings()
        matching = opened.metadata.clips_of_recordings(condition)
        gone = tuple(sorted(name for name, n in matching.items() if counts[name] == n))
        known = _recordings(opened, gone)
        marks = [signals_mark(row["signals"]) for row in known if row.get("signals")]
        if subject is not None:
            marks.append(subject_mark(before.uuid, subject))
        keys = tuple(row["source"] for row in known)
        writer.commit(before.without_clips(clip_ids, keys, tuple(marks)))
        after = writer.manifest
    erased = compact(path, erase=True) if now else None
    if receipt is not None:
        asked = {"subject": subject, "recording": recording, "where": where}
        write_receipt(
            Path(receipt),
            path,
            before,
            after,
            asked={name: value for name, value in asked.items() if value is not None},
            clips=matching,
            recordings=known,
            erased=erased,
        )
    return Deletion(len(clip_ids), gone, erased)


def _condition(subject: str | None, recording: str | None, where: str | None) -> str:
    named = {"subject_id": subject, "recording_id": recording}
    given = [_is(column, name) for column, name in named.items() if name is not None]
    given += [] if where is None else [where]
    if len(given) != 1:
        raise QueryError("pass one of --subject, --recording and --where")
    return given[0]


def _is(column: str, name: str) -> str:
    # As it was typed, or as it is stored: a Mac writes accents as letters of their own.
    if same_id(name) == name:
        return f"{column} = {quote_text(name)}"
    return f"{column} IN ({quote_text(name)}, {quote_text(same_id(name))})"


def _recordings(store: Reader, names: tuple[str, ...]) -> list[dict[str, Any]]:
    if not names:
        return []
    listed = ", ".join(quote_text(name) for name in names)
    signals = "signals" if "signals" in store.metadata.columns("recordings").names else "NULL"
    table = store.metadata.select(
        f"SELECT DISTINCT recording_id, source, {signals} AS signals FROM recordings "
        f"WHERE recording_id IN ({listed}) ORDER BY source"
    )
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
