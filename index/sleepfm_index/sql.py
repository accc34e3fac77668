"""SQL over the metadata: DuckDB that can read this store's tables and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.manifest import Manifest
from sleepfm_index.schema import CLIP_COLUMNS, EVENT_COLUMNS, RECORDING_COLUMNS
from sleepfm_index.segment import CLIPS, EVENTS, FOLDER, RECORDINGS

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
        self._connection = duckdb.connect(":memory:", config=config)
        _create_views(self._connection, store, manifest)
        segments = str(store / FOLDER).replace("'", "''")
        self._connection.execute(f"SET allowed_directories = ['{segments}']")
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
            matches = cursor.view("clips")
            for condition in conditions:
                if condition is not None:
                    matches = matches.filter(condition)
            matches = matches.project("clip_id").order("clip_id")
            ids: NDArray[np.int64] = np.asarray(matches.fetchnumpy()["clip_id"], dtype=np.int64)
            return ids

    def rows(self, clip_ids: NDArray[np.int64]) -> pa.Table:
        """All metadata of the given clips, in the given order; unknown ids are left out."""
        listed = ", ".join(map(str, clip_ids.tolist())) or "NULL"
        wanted = f"SELECT * FROM clips WHERE clip_id IN ({listed})"
        with self._guarded() as cursor:
            return cursor.sql(
                f"{wanted} ORDER BY list_position([{listed}], clip_id)"
            ).to_arrow_table()

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
            yield cursor
        except duckdb.InterruptException:
            raise QueryError(f"the statement ran longer than {TIME_LIMIT_S:.0f} s") from None
        except duckdb.Error as error:
            raise QueryError(_one_sentence(error)) from error
        finally:
            stop.cancel()
            cursor.close()


def _create_views(connection: duckdb.DuckDBPyConnection, store: Path, manifest: Manifest) -> None:
    for view, (file, columns) in _VIEWS.items():
        paths = [str(store / FOLDER / s.id / file) for s in manifest.segments]
        if paths:
            same = view != "clips" or len({s.columns for s in manifest.segments}) == 1
            listed = ", ".join(_quoted(p, "'") for p in paths)
            select = f"SELECT * FROM read_parquet([{listed}], union_by_name={not same})"
        else:
            fields = ", ".join(
                f"NULL::{_duckdb_type(f.type)} AS {_quoted(f.name)}" for f in columns
            )
            select = f"SELECT {fields} WHERE false"
        if view == "clips" and manifest.deleted:
            gone = " OR ".join(f"clip_id BETWEEN {a} AND {b}" for a, b in manifest.deleted)
            select += f" WHERE NOT ({gone})"
        connection.execute(f"CREATE VIEW {view} AS {select}")


def _quoted(text: str, mark: str = '"') -> str:
    return mark + text.replace(mark, mark * 2) + mark


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
