"""Values of Arrow columns as Python objects that can be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sleepfm_index.number_display import shortest_decimals

if TYPE_CHECKING:
    import pyarrow as pa


def column_values(column: pa.Array) -> list[object]:
    """Return the values of a column; maps become dictionaries, also inside lists and structs."""
    import pyarrow as pa

    from sleepfm_index.errors import QueryError

    try:
        values: list[object] = shortest_decimals(column).to_pylist()
    except (OverflowError, ValueError) as error:
        raise QueryError(
            "the answer has a date or time outside the years 1 to 9999; cast its column to text "
            "(column::VARCHAR)"
        ) from error
    if not pa.types.is_nested(column.type):
        return values
    return [_mapped(value, column.type) for value in values]


def _mapped(value: Any, kind: pa.DataType) -> object:
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_map(kind):
        return {str(k): _mapped(v, kind.item_type) for k, v in value}
    if pa.types.is_struct(kind):
        return {field.name: _mapped(value[field.name], field.type) for field in kind}
    if pa.types.is_nested(kind) and isinstance(value, list) and kind.num_fields == 1:
        return [_mapped(item, kind.field(0).type) for item in value]
    return value
