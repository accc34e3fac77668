"""Where the recordings of a store are, by its private map, and which channel filled which slot."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import text
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


def slot_channels(
    store: Store, recording_id: str, channels: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Which channel, or which two to subtract, filled each slot at the build.

    Parameters
    ----------
    channels : collection of str
        Labels of the recording's channels.
    """
    (row,) = store.metadata.select(
        f"SELECT slots FROM recordings WHERE recording_id = {text(recording_id)} LIMIT 1"
    ).to_pylist()
    found = {}
    for slot, said in row["slots"]:
        words = said.partition(": ")[2].split(" - ")
        # a label may itself hold the words that part two labels
        pairs = [(" - ".join(words[:i]), " - ".join(words[i:])) for i in range(1, len(words))]
        options = [(" - ".join(words),), *pairs]
        for labels in options:
            if all(label in channels for label in labels):
                found[slot] = labels
                break
    return found
