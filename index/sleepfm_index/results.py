"""What a store answers with: rows, and one line that says how they were found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """Rows, and how they were found.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    note : str
        One line: what was asked, of what, how exactly.
    """

    table: pa.Table
    note: str = ""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def to_arrow(self) -> pa.Table:
        """Give the rows as a pyarrow Table."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """Give the rows as a pandas DataFrame (needs pandas)."""
        return self.table.to_pandas()

    def to_pylist(self) -> list[dict[str, Any]]:
        """Give the rows as a list of dicts."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows
