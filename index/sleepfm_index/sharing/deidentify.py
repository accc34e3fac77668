"""What an export may say of a person: a list of what is kept, everything else is left out.

The rules are written for people in docs/export.md; this module is what they describe.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sleepfm.labels import EVENT_COLUMNS
from sleepfm.modality import Modality
from sleepfm.quality import ISSUES
from sleepfm_index.schema import SUBJECT_COLUMNS

HASHED: Final = ("recording_id", "subject_id")
"""Replaced by keyed hashes."""

KEPT: Final = frozenset(
    {
        *("clip_id", "start_s", "stage"),
        *(f"has_{m}" for m in Modality),
        *(f"slots_{m}" for m in Modality),
        *EVENT_COLUMNS,
        *(f"quality_{m}_{issue}" for m in Modality for issue in ISSUES),
        *SUBJECT_COLUMNS.names,
    }
)
"""Kept; ``clip_id`` is counted anew and ``nsrr_age`` is in whole years. Left out are the site, the
time of day, the scorer's own words, and every further column of subjects.csv, of which nobody knows
what it holds."""


class Pseudonyms:
    """Keyed hashes in place of ids: the same id gets the same hash as long as the key is the same.

    Parameters
    ----------
    key : bytes
        Who does not have it cannot tell which id a hash stands for.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, column: str, text: str) -> str:
        """Give 20 hex digits of HMAC-SHA-256 over the column's name and the id."""
        message = f"export\n{column}\n{text}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:20]

    def column(self, table: pa.Table, name: str) -> pa.Array:
        """Give a column of ids with every id replaced."""
        coded = table[name].combine_chunks().dictionary_encode()
        hashed = [None if v is None else self.of(name, v) for v in coded.dictionary.to_pylist()]
        return pc.take(pa.array(hashed, pa.string()), coded.indices)

    def order(self, table: pa.Table) -> NDArray[np.int64]:
        """Rows by hashed recording, then by time.

        Recordings were added in the order of their files' names, which would tell them apart.
        """
        names = np.asarray(self.column(table, "recording_id").to_pylist())
        return np.lexsort((table["start_s"].to_numpy(), names))


def kept(schema: pa.Schema) -> pa.Schema:
    """Columns of ``clips`` that stay."""
    return pa.schema([f for f in schema if f.name in KEPT or f.name in HASHED])


def deidentified(clips: pa.Table, names: Pseudonyms, first_id: int) -> pa.Table:
    """Give rows of ``clips`` without what could lead back to a person.

    Parameters
    ----------
    first_id : int
        The clip id of the first row; the others count on from there.
    """
    ids = np.arange(first_id, first_id + len(clips), dtype=np.int64)
    replaced = {"clip_id": pa.array(ids), "nsrr_age": pc.floor(clips["nsrr_age"])}
    replaced |= {name: names.column(clips, name) for name in HASHED}
    schema = kept(clips.schema)
    return pa.table([replaced.get(f.name, clips[f.name]) for f in schema], schema=schema)
