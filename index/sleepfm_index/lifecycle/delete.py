"""Deleting: clips disappear from every answer at once, in one commit.

Their bytes stay on the disk until ``compact``. A recording whose clips are all deleted is
withdrawn: its content key is kept, so a repeated build does not bring it back in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sleepfm_index.errors import QueryError
from sleepfm_index.reader import Reader
from sleepfm_index.storage.quoting import quote_text
from sleepfm_index.storage.writer import Writer


@dataclass(frozen=True)
class Deletion:
    """What a deletion hid: how many clips, and the recordings of which nothing is left."""

    clips: int
    withdrawn: tuple[str, ...]


def delete(
    store: str | Path,
    *,
    subject: str | None = None,
    recording: str | None = None,
    where: str | None = None,
) -> Deletion:
    """Delete the clips of a subject, of a recording, or those for which a condition holds.

    Parameters
    ----------
    store : path
        The store's folder.
    subject, recording : str, optional
        A ``subject_id`` or ``recording_id``.
    where : str, optional
        SQL condition over the columns of ``clips``. Exactly one of the three is given.

    Raises
    ------
    QueryError
        If not exactly one is given, the condition is not valid, or no clip matches.
    StoreLocked
        If another process is writing.
    """
    condition = _condition(subject, recording, where)
    path = Path(store)
    with Writer(path) as writer, Reader(path) as opened:
        clip_ids = opened.metadata.clip_ids(condition)
        if not len(clip_ids):
            raise QueryError(f"no clip has {condition}; nothing was deleted")
        before = opened.metadata.clips_of_recordings()
        matching = opened.metadata.clips_of_recordings(condition)
        gone = tuple(sorted(name for name, n in matching.items() if before[name] == n))
        keys = _sources(opened, gone)
        writer.commit(writer.manifest.without_clips(clip_ids, keys))
    return Deletion(len(clip_ids), gone)


def _condition(subject: str | None, recording: str | None, where: str | None) -> str:
    named = {"subject_id": subject, "recording_id": recording}
    given = [f"{column} = {quote_text(name)}" for column, name in named.items() if name is not None]
    given += [] if where is None else [where]
    if len(given) != 1:
        raise QueryError("say what to delete by one of --subject, --recording and --where")
    return given[0]


def _sources(store: Reader, recordings: tuple[str, ...]) -> tuple[str, ...]:
    if not recordings:
        return ()
    listed = ", ".join(quote_text(name) for name in recordings)
    table = store.metadata.select(
        f"SELECT DISTINCT source FROM recordings WHERE recording_id IN ({listed}) ORDER BY source"
    )
    return tuple(table["source"].to_pylist())
