"""Numbers as people read them: four significant digits, and float32 as its shortest decimal."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

Column = TypeVar("Column", "pa.Array", "pa.ChunkedArray")


def four_digits(value: float) -> str:
    """Format a number with four significant digits; large ones with all digits before the point.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    str
    """
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def shortest_decimals(column: Column) -> Column:
    """Convert float32 to the float64 with the same shortest decimal: 28.2, not 28.200000762939453.

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
        A column of any type.

    Returns
    -------
    pyarrow.Array or pyarrow.ChunkedArray
        float64 for a column of float32, otherwise the column itself.
    """
    if column.type != "float":  # Arrow's name of float32
        return column
    return column.cast("string").cast("double")
