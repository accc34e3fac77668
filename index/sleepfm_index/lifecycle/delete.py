"""Deletion: clips disappear from all results in one commit.

Their bytes stay on the disk until ``compact`` runs, or ``delete`` is called with ``now=True``. A
recording without remaining clips is withdrawn: a hash of its samples is stored, so that a later
build does not add it again under another name or with another scoring. The same holds for deleted
subjects.
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
        Number of deleted clips.
    withdrawn : tuple of str
        Recordings without remaining clips.
    erased : Compaction or None
        Result of the compaction, with ``now=True``.
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
        A ``subject_id`` or ``recording_id``. A hash of a deleted subject's id is stored, so that
        later builds skip further recordings of this person.
    where : str, optional
        SQL condition over the columns of ``clips``. Exactly one of the three must be given.
    now : bool
        Whether to remove the clips from the disk as well: compact, and remove earlier snapshots
        and ``quarantine/``.
    receipt : path, optional
        JSON file to write with the deleted clips, the time, and the removed and new files with
        their hashes.

    Returns
    -------
    Deletion

    Raises
    ------
    QueryError
        If not exactly one of them is given, the condition is not valid, or no clip matches.
    StoreError
        If the receipt cannot be written; nothing is deleted then.
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
        withdrawn = tuple(sorted(name for name, n in matching.items() if counts[name] == n))
        recordings = _recordings(opened, withdrawn)
        marks = [signals_mark(row["signals"]) for row in recordings if row.get("signals")]
        if subject is not None:
            marks.append(subject_mark(before.uuid, subject))
        keys = tuple(row["source"] for row in recordings)
        writer.commit(before.without_clips(clip_ids, keys, tuple(marks)))
        after = writer.manifest
    erased = compact(path, erase=True) if now else None
    if receipt is not None:
        selection = {"subject": subject, "recording": recording, "where": where}
        write_receipt(
            Path(receipt),
            path,
            before,
            after,
            selection={name: value for name, value in selection.items() if value is not None},
            clips=matching,
            recordings=recordings,
            erased=erased,
        )
    return Deletion(len(clip_ids), withdrawn, erased)


def _condition(subject: str | None, recording: str | None, where: str | None) -> str:
    ids = {"subject_id": subject, "recording_id": recording}
    conditions = [_is(column, name) for column, name in ids.items() if name is not None]
    conditions += [] if where is None else [where]
    if len(conditions) != 1:
        raise QueryError("pass one of --subject, --recording and --where")
    return conditions[0]


def _is(column: str, name: str) -> str:
    # Match the id as typed and in normal form: macOS decomposes accented letters.
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
