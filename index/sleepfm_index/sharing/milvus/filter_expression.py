"""Translation of SQL conditions to Milvus filter expressions.

Only constructs with exactly the same meaning are translated: comparisons of a column with a value,
IN, BETWEEN, LIKE, IS NULL, AND, OR, NOT. Everything else is rejected. SQL has three truth values,
and Milvus's treatment of null has changed between versions. Negations are therefore moved inwards
to the comparisons (De Morgan), and every comparison of a nullable column tests for null explicitly.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any, Final, NoReturn

import duckdb
import numpy as np
import pyarrow as pa
import sqlglot
from sqlglot import expressions as exp

from sleepfm_index.errors import QueryError
from sleepfm_index.sharing.milvus.entities import KEY, PARTITION, Column
from sleepfm_index.storage.metadata import SETTINGS, connect

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
    """The SQL condition has no Milvus equivalent; the store itself can evaluate it."""


def translate(where: str, columns: tuple[Column, ...]) -> str:
    """Translate a SQL condition over ``clips`` to an equivalent Milvus expression.

    Parameters
    ----------
    where : str
        Condition in DuckDB's dialect.
    columns : tuple of Column
        Columns of the collection.

    Returns
    -------
    str

    Raises
    ------
    Untranslatable
        If the condition has no Milvus equivalent, or is not a condition.
    QueryError
        If the condition names an unknown column.
    """
    try:
        parsed = sqlglot.parse_one(where, read="duckdb")
        expression = _Translation({c.name.lower(): c for c in columns}).of(parsed, negated=False)
    except sqlglot.errors.SqlglotError as error:
        raise Untranslatable(
            f"this condition cannot be translated to a Milvus filter: {where}"
        ) from error
    except RecursionError as error:
        raise Untranslatable("this condition is nested too deeply for a Milvus filter") from error
    _check_in_sql(where, columns)
    return expression


@lru_cache(maxsize=64)
def _check_in_sql(where: str, columns: tuple[Column, ...]) -> None:
    """Refuse what DuckDB refuses: the parser accepts other dialects, and does not check types."""
    empty = pa.schema([(c.name, c.type) for c in columns]).empty_table()
    connection = connect(SETTINGS)
    try:
        connection.register("clips", empty)
        connection.sql("SELECT * FROM clips").set_alias("clips").filter(where).fetchall()
    except duckdb.Error as error:
        raise QueryError(" ".join(str(error).split("\n\n")[0].split())) from error
    finally:
        connection.close()


class _Translation:
    def __init__(self, columns: dict[str, Column]) -> None:
        self._columns = columns

    def of(self, node: Any, *, negated: bool) -> str:
        """Translate a condition, or its negation, to an expression that is true for the same rows.

        Parameters
        ----------
        node : sqlglot.Expression
            The parsed condition.
        negated : bool
            Translate the negation.

        Returns
        -------
        str
        """
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
            if column.data_type != "BOOL":
                _reject(node)
            return self._with_null_check(column, f"{column.field} == {_word(not negated)}")
        if type(node) in _OPERATORS:
            _only(node, "this", "expression")
            return self._comparison(node, _OPERATORS[type(node)][negated])
        if isinstance(node, (exp.NullSafeEQ, exp.NullSafeNEQ)):
            return self._is_distinct(node, isinstance(node, exp.NullSafeNEQ) != negated)
        if isinstance(node, exp.Is):
            return self._is(node, negated)
        if isinstance(node, exp.In):
            _only(node, "this", "expressions")
            column = self._column(node.this)
            # A value given twice, such as 5 and 5.0, would give its clips twice.
            given = dict.fromkeys(_literal(value, column) for value in node.expressions)
            values = ", ".join(given)
            return self._with_null_check(
                column, f"{column.field} {'not in' if negated else 'in'} [{values}]"
            )
        if isinstance(node, exp.Between):
            _only(node, "this", "low", "high")
            column = self._column(node.this)
            low, high = (_literal(node.args[end], column) for end in ("low", "high"))
            inside = f"({column.field} >= {low} and {column.field} <= {high})"
            outside = f"({column.field} < {low} or {column.field} > {high})"
            return self._with_null_check(column, outside if negated else inside)
        if isinstance(node, exp.Like):
            return self._like(node, negated != bool(node.args.get("negate")))
        return _reject(node)

    def _comparison(self, node: Any, operator: str) -> str:
        left, right = node.left, node.right
        if not isinstance(left, exp.Column):
            left, right, operator = right, left, _MIRRORED[operator]
        column = self._column(left)
        if column.data_type == "BOOL" and operator not in ("==", "!="):
            _reject(node)
        return self._with_null_check(column, f"{column.field} {operator} {_literal(right, column)}")

    def _is_distinct(self, node: Any, distinct: bool) -> str:
        _only(node, "this", "expression")
        column = self._column(node.left)
        if isinstance(node.right, exp.Null):
            return self._null(column, not distinct)
        value = _literal(node.right, column)
        if distinct:
            return f"({self._null(column, True)} or {column.field} != {value})"
        return self._with_null_check(column, f"{column.field} == {value}")

    def _is(self, node: Any, negated: bool) -> str:
        _only(node, "this", "expression")
        column = self._column(node.this)
        if isinstance(node.expression, exp.Null):
            return self._null(column, not negated)
        if isinstance(node.expression, exp.Boolean) and column.data_type == "BOOL":
            value = _word(node.expression.this)
            if negated:
                return f"({self._null(column, True)} or {column.field} != {value})"
            return self._with_null_check(column, f"{column.field} == {value}")
        return _reject(node)

    def _like(self, node: Any, negated: bool) -> str:
        _only(node, "this", "expression", "negate")
        column = self._column(node.this)
        pattern = _text(node.expression)
        # Milvus uses the backslash as an escape character, SQL does not.
        if column.data_type != "VARCHAR" or pattern is None or "\\" in pattern:
            _reject(node)
        like = f"{column.field} like {json.dumps(pattern, ensure_ascii=False)}"
        return self._with_null_check(column, f"not ({like})" if negated else like)

    def _column(self, node: Any) -> Column:
        if not isinstance(node, exp.Column) or node.table not in ("", "clips"):
            _reject(node)
        column = self._columns.get(node.name.lower())
        if column is None:
            raise QueryError(f"the collection has no column {node.name}")
        return column

    def _null(self, column: Column, null: bool) -> str:
        if column.name == PARTITION:
            return f'{column.field} {"==" if null else "!="} ""'
        if not column.nullable:
            return _NOTHING if null else _EVERYTHING
        return f"{column.field} is {'null' if null else 'not null'}"

    def _with_null_check(self, column: Column, comparison: str) -> str:
        if column.name == KEY:
            return f"({comparison})"
        return f"({self._null(column, False)} and {comparison})"


def _literal(node: Any, column: Column) -> str:
    """Write a value in the syntax of the column's type."""
    if column.data_type == "BOOL" and isinstance(node, exp.Boolean):
        return _word(node.this)
    if column.data_type == "VARCHAR" and pa.types.is_string(column.type):
        text = _text(node)
        return _reject(node) if text is None else json.dumps(text, ensure_ascii=False)
    negative = isinstance(node, exp.Neg)
    number = node.this if negative else node
    if not isinstance(number, exp.Literal) or number.is_string:
        return _reject(node)
    value = float(number.this) * (-1 if negative else 1)
    with np.errstate(over="ignore"):
        finite = math.isfinite(np.float32(value) if column.data_type == "FLOAT" else value)
    if not finite:
        return _reject(node)  # Milvus has no infinity
    if column.data_type in ("INT64", "INT32"):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else _reject(node)
    if column.data_type == "FLOAT":
        # DuckDB compares a float column in float32, so 40.1 means the nearest float32.
        value = float(np.float32(value))
    return repr(value) if column.data_type in ("FLOAT", "DOUBLE") else _reject(node)


def _text(node: Any) -> str | None:
    return str(node.this) if isinstance(node, exp.Literal) and node.is_string else None


def _word(value: bool) -> str:
    return "true" if value else "false"


def _only(node: Any, *known: str) -> None:
    # Arguments added by a later version of the parser must not be ignored silently.
    if any(value for name, value in node.args.items() if name not in known):
        _reject(node)


def _reject(node: Any) -> NoReturn:
    raise Untranslatable(
        f"Milvus does not support {node.sql(dialect='duckdb')}: use comparisons of a column with a "
        "value (=, <, IN, BETWEEN, LIKE, IS NULL, AND, OR, NOT), or pass the store with --store"
    )
