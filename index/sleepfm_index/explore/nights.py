"""The list of nights, and one night with its stages, events and quality."""

from __future__ import annotations

from typing import Any, Final

from sleepfm_index.errors import QueryError
from sleepfm_index.explore import labelling
from sleepfm_index.explore.answers import Document, Table
from sleepfm_index.explore.session import Session
from sleepfm_index.reader import Reader
from sleepfm_index.storage.quoting import quote_name, quote_text

_MAX_LOOKED_FOR: Final = 2000
"""Maximum number of files whose existence is checked."""


def nights(store: Reader, limit: int) -> Table:
    """List the recordings, one row each, in order of their first clip.

    Parameters
    ----------
    store : Reader
        The open store.
    limit : int
        Maximum number of recordings.
    """
    rows = store.sql(
        "SELECT recording_id, any_value(subject_id) AS subject_id, any_value(site) AS site, "
        "min(clip_id) AS first_clip_id, count(*) AS clips, max(start_s) AS last_start_s "
        f"FROM clips GROUP BY recording_id ORDER BY first_clip_id LIMIT {int(limit)}"
    ).table
    return Table(rows, f"{rows.num_rows:,} recordings")


def recordings_at_hand(store: Reader) -> dict[str, int]:
    """Count the recordings with a known path, and how many of the first 2,000 files exist.

    Parameters
    ----------
    store : Reader
        The open store.
    """
    files = list(store.files().values())
    checked = files[:_MAX_LOOKED_FOR]
    existing = sum(path.is_file() for path in checked)
    return {"known": len(files), "looked_for": len(checked), "there": existing}


def night(session: Session, store: Reader, recording_id: str) -> Document:
    """Return one night: clips by column, events, labels, and warnings of the build.

    Parameters
    ----------
    session : Session
        The session, with the cache of the store's snapshot.
    store : Reader
        The open store.
    recording_id : str
        Name of the recording in the store.
    """
    key = ("columns", store.manifest.snapshot)
    names = session.cached(key, lambda: store.metadata.columns().names)
    quality = {
        m: [quote_name(n) for n in names if n.startswith(f"quality_{m}_")]
        for m in store.manifest.modalities
    }
    worst = [
        f"greatest({', '.join(columns)}) AS worst_{m}" if columns else f"0 AS worst_{m}"
        for m, columns in quality.items()
    ]
    has = [f"has_{m}" for m in store.manifest.modalities]
    name = quote_text(recording_id)
    clips = store.sql(
        f"SELECT clip_id, start_s, clock, stage, subject_id, site, {', '.join([*has, *worst])} "
        f"FROM clips WHERE recording_id = {name} ORDER BY start_s"
    ).table
    if not clips.num_rows:
        raise QueryError(f"no recording {recording_id[:80]!r} in this store")
    events = store.sql(
        "SELECT onset_s, duration_s, type, subtype FROM events "
        f"WHERE recording_id = {name} ORDER BY onset_s"
    ).to_pylist()
    (facts,) = store.sql(
        f"SELECT format, duration_s, unmatched, warnings FROM recordings "
        f"WHERE recording_id = {name} LIMIT 1"
    ).to_pylist()
    file = store.files().get(recording_id)
    content: dict[str, Any] = {
        "recording_id": recording_id,
        "subject_id": clips["subject_id"][0].as_py(),
        "site": clips["site"][0].as_py(),
        "clip_seconds": store.manifest.contract.clip_seconds,
        "signals": file is not None and file.is_file(),
        **facts,
        "clips": clips.drop_columns(["subject_id", "site"]).to_pydict(),
        "events": events,
        "labels": labelling.of_clips(session.path, clips["clip_id"].to_pylist()),
    }
    return Document(content)
