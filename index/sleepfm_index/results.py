"""Results: a table and one line about how it was computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """A table of results with a note.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    note : str
        One line about the query and the search method.
    """

    table: pa.Table
    note: str = ""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def to_arrow(self) -> pa.Table:
        """Return the rows as a pyarrow Table.

        Returns
        -------
        pyarrow.Table
        """
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """Convert the rows to a pandas DataFrame.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return self.table.to_pandas()

    def to_pylist(self) -> list[dict[str, Any]]:
        """Convert the rows to Python objects.

        Returns
        -------
        list of dict
            One per row.
        """
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows
