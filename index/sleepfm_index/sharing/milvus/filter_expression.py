"""A condition in SQL becomes a condition in Milvus's language, or is refused.

Only what means exactly the same there is translated: comparisons of a column with a value, IN,
BETWEEN, LIKE, IS NULL, AND, OR, NOT. SQL has three truth values and Milvus's treatment of null has
changed between versions, so negations are driven down to the comparisons (De Morgan) and every
comparison of a column that can be null says so.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

import numpy as np
import pyarrow as pa
import sqlglot
from sqlglot import expressions as exp

from sleepfm_index.errors import QueryError
from sleepfm_index.sharing.milvus.entities import KEY, PARTITION, Column

_OPERATORS: Final = {
    exp.EQ: ("==", "!="),
    exp.NEQ: ("!=", "=="),
    exp.LT: ("<", ">="),
    exp.LTE: ("<=", ">"),
    exp.GT: (">", "<="),
    exp.GTE: (">=", "<"),
}
_MIRRORED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NOTHING, _EVERYTHING = f"{KEY} < 0", f"{KEY} >= 0"


class Untranslatable(QueryError):
    """The condition is SQL that Milvus cannot be asked; ask the store itself."""


def translate(where: str, columns: tuple[Column, ...]) -> str:
    """Give a SQL condition over ``clips`` as a Milvus expression with the same meaning.

    Raises
    ------
    Untranslatable
        If it is more than Milvus can be asked, or not a condition.
    """
    try:
        parsed = sqlglot.parse_one(where, read="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise Untranslatable(f"this is no condition that Milvus can be asked: {where}") from error
    return _Translation({c.name.lower(): c for c in columns}).of(parsed, negated=False)


class _Translation:
    def __init__(self, columns: dict[str, Column]) -> None:
        self._columns = columns

    def of(self, node: Any, *, negated: bool) -> str:
        """Expression that is true exactly where the condition, or its negation, is true in SQL."""
        if isinstance(node, exp.Paren):
            return self.of(node.this, negated=negated)
        if isinstance(node, exp.Not):
            return self.of(node.this, negated=not negated)
        if isinstance(node, (exp.And, exp.Or)):
            word = "and" if isinstance(node, exp.And) != negated else "or"
            left, right = (self.of(n, negated=negated) for n in (node.left, node.right))
            return f"({left} {word} {right})"
        if isinstance(node, exp.Boolean):
            return _EVERYTHING if node.this != negated else _NOTHING
        return self._leaf(node, negated)

    def _leaf(self, node: Any, negated: bool) -> str:
        if isinstance(node, exp.Column):
            column = self._column(node)
            if column.kind != "BOOL":
                _refuse(node)
            return self._guarded(column, f"{column.field} == {_word(not negated)}")
        if type(node) in _OPERATORS:
            _only(node, "this", "expression")
            return self._comparison(node, _OPERATORS[type(node)][negated])
        if isinstance(node, (exp.NullSafeEQ, exp.NullSafeNEQ)):
            return self._distinct(node, isinstance(node, exp.NullSafeNEQ) != negated)
        if isinstance(node, exp.Is):
            return self._is(node, negated)
        if isinstance(node, exp.In):
            _only(node, "this", "expressions")
            column = self._column(node.this)
            values = ", ".join(_literal(value, column) for value in node.expressions)
            return self._guarded(
                column, f"{column.field} {'not in' if negated else 'in'} [{values}]"
            )
        if isinstance(node, exp.Between):
            _only(node, "this", "low", "high")
            column = self._column(node.this)
            low, high = (_literal(node.args[end], column) for end in ("low", "high"))
            inside = f"({column.field} >= {low} and {column.field} <= {high})"
            outside = f"({column.field} < {low} or {column.field} > {high})"
            return self._guarded(column, outside if negated else inside)
        if isinstance(node, exp.Like):
            return self._like(node, negated != bool(node.args.get("negate")))
        return _refuse(node)

    def _comparison(self, node: Any, operator: str) -> str:
        left, right = node.left, node.right
        if not isinstance(left, exp.Column):
            left, right, operator = right, left, _MIRRORED[operator]
        column = self._column(left)
        if column.kind == "BOOL" and operator not in ("==", "!="):
            _refuse(node)
        return self._guarded(column, f"{column.field} {operator} {_literal(right, column)}")

    def _distinct(self, node: Any, distinct: bool) -> str:
        _only(node, "this", "expression")
        column = self._column(node.left)
        if isinstance(node.right, exp.Null):
            return self._null(column, not distinct)
        value = _literal(node.right, column)
        if distinct:
            return f"({self._null(column, True)} or {column.field} != {value})"
        return self._guarded(column, f"{column.field} == {value}")

    def _is(self, node: Any, negated: bool) -> str:
        _only(node, "this", "expression")
        column = self._column(node.this)
        if isinstance(node.expression, exp.Null):
            return self._null(column, not negated)
        if isinstance(node.expression, exp.Boolean) and column.kind == "BOOL":
            value = _word(node.expression.this)
            if negated:
                return f"({self._null(column, True)} or {column.field} != {value})"
            return self._guarded(column, f"{column.field} == {value}")
        return _refuse(node)

    def _like(self, node: Any, negated: bool) -> str:
        _only(node, "this", "expression", "negate")
        column = self._column(node.this)
        pattern = _text(node.expression)
        # Milvus escapes by a backslash, SQL does not.
        if column.kind != "VARCHAR" or pattern is None or "\\" in pattern:
            _refuse(node)
        like = f"{column.field} like {json.dumps(pattern, ensure_ascii=False)}"
        return self._guarded(column, f"not ({like})" if negated else like)

    def _column(self, node: Any) -> Column:
        if not isinstance(node, exp.Column) or node.table not in ("", "clips"):
            _refuse(node)
        column = self._columns.get(node.name.lower())
        if column is None:
            raise QueryError(f"there is no column {node.name} among the clips")
        return column

    def _null(self, column: Column, null: bool) -> str:
        if column.name == PARTITION:
            return f'{column.field} {"==" if null else "!="} ""'
        if not column.nullable:
            return _NOTHING if null else _EVERYTHING
        return f"{column.field} is {'null' if null else 'not null'}"

    def _guarded(self, column: Column, comparison: str) -> str:
        if column.name == KEY:
            return f"({comparison})"
        return f"({self._null(column, False)} and {comparison})"


def _literal(node: Any, column: Column) -> str:
    """Write a value as the column's type has it."""
    if column.kind == "BOOL" and isinstance(node, exp.Boolean):
        return _word(node.this)
    if column.kind == "VARCHAR" and pa.types.is_string(column.type):
        text = _text(node)
        return _refuse(node) if text is None else json.dumps(text, ensure_ascii=False)
    negative = isinstance(node, exp.Neg)
    number = node.this if negative else node
    if not isinstance(number, exp.Literal) or number.is_string:
        return _refuse(node)
    value = float(number.this) * (-1 if negative else 1)
    if column.kind in ("INT64", "INT32"):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else _refuse(node)
    if column.kind == "FLOAT":
        # DuckDB compares a float column in float32: 40.1 is the float32 nearest to it.
        value = float(np.float32(value))
    return repr(value) if column.kind in ("FLOAT", "DOUBLE") else _refuse(node)


def _text(node: Any) -> str | None:
    return str(node.this) if isinstance(node, exp.Literal) and node.is_string else None


def _word(value: bool) -> str:
    return "true" if value else "false"


def _only(node: Any, *known: str) -> None:
    # What a later version of the parser adds to a node must not be passed over in silence.
    if any(value for name, value in node.args.items() if name not in known):
        _refuse(node)


def _refuse(node: Any) -> NoReturn:
    raise Untranslatable(
        f"Milvus cannot be asked {node.sql(dialect='duckdb')}: it compares columns with values "
        "(=, <, IN, BETWEEN, LIKE, IS NULL, AND, OR, NOT); for more name the store by --store"
    )
