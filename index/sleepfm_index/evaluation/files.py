"""Where the recordings of a store are, by its private map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sleepfm_index.errors import QueryError
from sleepfm_index.storage import private

if TYPE_CHECKING:
    from sleepfm_index.store import Store


def recording_file(store: Store, recording_id: str) -> Path:
    """Give the file of a recording, by the store's private map.

    Raises
    ------
    QueryError
        If the map is not there, does not know the recording, or the file is gone.
    """
    path = private.files(store.path).get(recording_id)
    if path is None:
        raise QueryError(
            f"the store does not know the file of {recording_id}: its folder private/ is kept "
            "apart or was removed; put it back to read signals"
        )
    if not path.is_file():
        raise QueryError(f"the recording {recording_id} is not where it was when it was built")
    return path
