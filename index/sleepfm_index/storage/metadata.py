"""SQL over the metadata: DuckDB that can read this store's tables and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.schema import CLIP_COLUMNS, EVENT_COLUMNS, RECORDING_COLUMNS
from sleepfm_index.storage import paths
from sleepfm_index.storage.manifest import Manifest, as_ranges
from sleepfm_index.storage.quoting import quote_name, quote_text
from sleepfm_index.storage.segments import CLIPS, EVENTS, RECORDINGS, check_table
from sleepfm_index.storage.snapshots import held

TIME_LIMIT_S: Final = 300.0
MEMORY_LIMIT: Final = "4GB"
_VIEWS: Final = {
    "clips": (CLIPS, CLIP_COLUMNS),
    "events": (EVENTS, EVENT_COLUMNS),
    "recordings": (RECORDINGS, RECORDING_COLUMNS),
}
_READ_ONLY: Final = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})


class Metadata:
    """The views ``clips``, ``events`` and ``recordings`` of one snapshot.

    One connection, locked down before the first statement of a user runs: no file but the
    segments', no extension, no setting, one read-only statement at a time. Safe to share between
    threads.
    """

    def __init__(self, store: Path, manifest: Manifest, threads: int | None = None) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "memory_limit": MEMORY_LIMIT,
        }
        if threads:
            config["threads"] = threads
        self._store, self._manifest = store, manifest
        with held(store, manifest):
            tables = {
                view: [str(check_table(store, s, file)) for s in manifest.segments]
                for view, (file, _) in _VIEWS.items()
            }
        self._connection = duckdb.connect(":memory:", config=config)
        try:
            with held(store, manifest):
                _hide_deleted(self._connection, manifest)
                _create_views(self._connection, manifest, tables)
        except duckdb.Error as error:
            raise FormatError(
                f"the tables of {store} cannot be read: {_one_sentence(error)}"
            ) from error
        segments = quote_text(store / paths.SEGMENTS)
        self._connection.execute(f"SET allowed_directories = [{segments}]")
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def select(self, statement: str) -> pa.Table:
        """Answer one read-only statement.

        Raises
        ------
        QueryError
            If it is not exactly one SELECT-like statement, does not parse, names what is not
            there, or runs past the limits of time and memory.
        """
        with self._guarded() as cursor:
            parsed = duckdb.extract_statements(statement)
            if len(parsed) != 1:
                raise QueryError(f"one SQL statement at a time, please; this is {len(parsed)}")
            if parsed[0].type not in _READ_ONLY:
                kind = str(parsed[0].type).rpartition(".")[2]
                raise QueryError(f"only SELECT-like statements can be run on a store, not {kind}")
            relation = cursor.sql(statement)
            return pa.table({}) if relation is None else relation.to_arrow_table()

    def clip_ids(self, *conditions: str | None) -> NDArray[np.int64]:
        """Ids of the clips for which every SQL condition holds, ascending, int64 [n].

        Each condition is parsed as one expression, so it cannot close a parenthesis or start a
        second statement; None holds for every clip.

        Raises
        ------
        QueryError
            If one is not a valid condition over the columns of ``clips``.
        """
        with self._guarded() as cursor:
            matches = _matches(cursor, conditions).project("clip_id").order("clip_id")
            ids: NDArray[np.int64] = np.asarray(matches.fetchnumpy()["clip_id"], dtype=np.int64)
            return ids

    def clips_of_recordings(self, *conditions: str | None) -> dict[str, int]:
        """How many clips of each recording the conditions hold for; see :meth:`clip_ids`."""
        with self._guarded() as cursor:
            matches = _matches(cursor, conditions).aggregate("recording_id, count(*)")
            return dict(matches.fetchall())

    def rows(self, clip_ids: NDArray[np.int64]) -> pa.Table:
        """All metadata of the given clips, in the given order; unknown ids are left out."""
        distinct, at = np.unique(clip_ids, return_inverse=True)
        listed = ", ".join(map(str, distinct.tolist())) or "NULL"
        with self._guarded() as cursor:
            table = cursor.sql(
                f"SELECT * FROM clips WHERE clip_id IN ({listed}) ORDER BY clip_id"
            ).to_arrow_table()
        known = numpy_of(table["clip_id"])
        place = np.full(len(distinct), -1)
        place[np.isin(distinct, known)] = np.arange(len(known))
        wanted = place[at]
        return table.take(int64s(wanted[wanted >= 0]))

    def clip_schema(self) -> pa.Schema:
        """Columns of ``clips`` over all segments, as SQL sees them."""
        return self.select("SELECT * FROM clips LIMIT 0").schema

    def runs(self, column: str, value: str) -> tuple[tuple[int, int], ...]:
        """Clip ids of a subject or a recording, as (first, last) runs."""
        ids = self.clip_ids(f"{column} = {quote_text(value)}")
        return tuple(as_ranges(ids))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _guarded(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._connection.cursor()
        stop = threading.Timer(TIME_LIMIT_S, cursor.interrupt)
        stop.daemon = True
        stop.start()
        try:
            with held(self._store, self._manifest):
                yield cursor
        except duckdb.InterruptException:
            raise QueryError(f"the statement ran longer than {TIME_LIMIT_S:.0f} s") from None
        except duckdb.Error as error:
            raise QueryError(_one_sentence(error)) from error
        finally:
            stop.cancel()
            cursor.close()


def int64s(values: NDArray[np.integer[Any]]) -> pa.Array:
    """Give integers as an Arrow array.

    pyarrow.array would import pandas, where there is one, to see whether this is a Series.
    """
    whole = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(whole), [None, pa.py_buffer(whole)])


def numpy_of(column: pa.ChunkedArray) -> NDArray[Any]:
    """Give a column of int64 or float64 without nulls as an array; to_numpy would import pandas."""
    kind = np.dtype(str(column.type).replace("double", "float64"))
    parts = [
        np.frombuffer(part.buffers()[1], kind, len(part), part.offset * kind.itemsize)
        for part in column.chunks
        if len(part)
    ]
    return np.concatenate([*parts, np.empty(0, kind)])


def _matches(
    cursor: duckdb.DuckDBPyConnection, conditions: tuple[str | None, ...]
) -> duckdb.DuckDBPyRelation:
    matches = cursor.view("clips")
    for condition in conditions:
        if condition is not None:
            matches = matches.filter(condition)
    return matches


def _hide_deleted(connection: duckdb.DuckDBPyConnection, manifest: Manifest) -> None:
    # As tables, because a condition with a hundred thousand ranges would be tried row by row.
    connection.execute("CREATE TABLE _ranges (first BIGINT, last BIGINT)")
    connection.execute("CREATE TABLE _withdrawn (source VARCHAR)")
    for table, rows in (("_ranges", manifest.deleted), ("_withdrawn", manifest.withdrawn)):
        for at in range(0, len(rows), 1000):
            values = ", ".join(_values(row) for row in rows[at : at + 1000])
            connection.execute(f"INSERT INTO {table} VALUES {values}")
    connection.execute(
        "CREATE TABLE _deleted AS SELECT unnest(range(first, last + 1)) AS clip_id FROM _ranges"
    )


def _values(row: tuple[int, int] | str) -> str:
    return "(" + (quote_text(row) if isinstance(row, str) else f"{row[0]}, {row[1]}") + ")"


def _create_views(
    connection: duckdb.DuckDBPyConnection, manifest: Manifest, tables: dict[str, list[str]]
) -> None:
    clips, others = bool(manifest.deleted), bool(manifest.withdrawn)
    for view, (_, columns) in _VIEWS.items():
        if tables[view]:
            same = view != "clips" or len({s.columns for s in manifest.segments}) == 1
            listed = ", ".join(quote_text(p) for p in tables[view])
            select = f"SELECT * FROM read_parquet([{listed}], union_by_name={not same})"
        else:
            fields = ", ".join(
                f"NULL::{_duckdb_type(f.type)} AS {quote_name(f.name)}" for f in columns
            )
            select = f"SELECT {fields} WHERE false"
        if tables[view] and clips and view == "clips":
            select += " ANTI JOIN _deleted USING (clip_id)"
        if tables[view] and others and view != "clips":
            select += " ANTI JOIN _withdrawn USING (source)"
        connection.execute(f"CREATE VIEW {view} AS {select}")


def _duckdb_type(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return "MAP(VARCHAR, VARCHAR)"
    if pa.types.is_list(kind):
        return "VARCHAR[]"
    names = {"string": "VARCHAR", "int64": "BIGINT", "uint16": "USMALLINT", "bool": "BOOLEAN"}
    return names.get(str(kind), str(kind).upper())


def _one_sentence(error: duckdb.Error) -> str:
    # DuckDB adds a picture of the statement after a blank line; its first paragraph says it all.
    first = str(error).split("\n\n")[0]
    return " ".join(first.split())
