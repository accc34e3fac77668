"""SQL over the metadata: DuckDB is given Arrow tables and has no access to files."""

from __future__ import annotations

import os
import weakref
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.runtime.at_exit import closed_at_exit
from sleepfm_index.runtime.time_limit import interrupted_after
from sleepfm_index.storage.answer_types import with_text
from sleepfm_index.storage.arrow_columns import int64s, numpy_of
from sleepfm_index.storage.labels import label_table
from sleepfm_index.storage.manifest import Manifest, as_ranges
from sleepfm_index.storage.quoting import quote_text
from sleepfm_index.storage.snapshots import snapshot_guard
from sleepfm_index.storage.visible_tables import VIEWS, visible_tables

TIME_LIMIT_S: Final = 300.0
MEMORY_LIMIT: Final = "4GB"
RESULT_LIMIT: Final = 4 << 30
"""Maximum size in bytes of a result in memory, which DuckDB's own limit does not include."""
SETTINGS: Final[dict[str, str | bool]] = {
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # By default in the home folder, whose name SQL would tell.
    "extension_directory": "none",
    "secret_directory": "none",
    "memory_limit": MEMORY_LIMIT,
    # A name that is not a table is an error, not a variable of the calling program.
    "python_enable_replacements": False,
    "python_scan_all_frames": False,
    # DuckDB would spill to ./.tmp, which others may read, and let statements write there.
    "temp_directory": "",
}
_LOCKED: Final = (
    # Not at the start: DuckDB would then allow a file of the name ":memory:" in this folder.
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_QUESTIONS: Final = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})


class Metadata:
    """The views ``clips``, ``events``, ``recordings`` and ``labels`` of one snapshot.

    DuckDB gets the rows from Arrow scanners that leave deleted ones out, and has no access to
    files, extensions or settings. Every statement runs on a connection of its own in a read-only
    transaction that is rolled back, so none leaves anything behind. Safe to share between threads.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot to read.
    threads : int, optional
        Threads of DuckDB; by default DuckDB's own choice.
    time_limit_s : float, optional
        Time that a statement or condition may take; by default :data:`TIME_LIMIT_S`.
    """

    def __init__(
        self,
        store: Path,
        manifest: Manifest,
        threads: int | None = None,
        time_limit_s: float | None = None,
    ) -> None:
        config: dict[str, str | bool | int | float | list[str]] = dict(SETTINGS)
        if threads:
            config["threads"] = threads
        self._store, self._manifest = store, manifest
        self._time_limit_s = time_limit_s
        self._labelled = np.empty(0, np.int64), np.empty(0, bool)
        with snapshot_guard(store, manifest):
            try:
                self._tables = visible_tables(store, manifest)
            except (pa.ArrowException, OSError) as error:
                raise FormatError(
                    f"the tables of {store} cannot be read: {_one_sentence(error)}; "
                    "run `sleepfm-index verify`"
                ) from error
        self._connection = connect(config)
        # A connection that is open as Python ends makes DuckDB's bindings list what they leak.
        weakref.finalize(self, _close_own, self._connection, os.getpid())

    def select(self, statement: str) -> pa.Table:
        """Run one read-only statement and return the result.

        Parameters
        ----------
        statement : str
            One SELECT, or what DuckDB counts as one: DESCRIBE, SHOW, SUMMARIZE, VALUES, FROM.

        Raises
        ------
        QueryError
            If the text is not exactly one SELECT-like statement, does not parse, names an unknown
            table or column, or exceeds the limits of time or memory.
        """
        with self.stream(statement) as reader:
            batches, size = [], 0
            for batch in reader:
                size += batch.get_total_buffer_size()
                if size > RESULT_LIMIT:
                    raise QueryError(
                        f"the answer is larger than {RESULT_LIMIT >> 30} GB; select fewer "
                        "columns or rows, or stream it with --format csv or parquet"
                    )
                batches.append(batch)
            return pa.Table.from_batches(batches, reader.schema)

    def stream(self, statement: str) -> AbstractContextManager[pa.RecordBatchReader]:
        """Run one read-only statement, to read its result in batches inside ``with``.

        Parameters
        ----------
        statement : str
            As in :meth:`select`.
        """
        return contextmanager(lambda: closed_at_exit(self._stream(statement)))()

    def _stream(self, statement: str) -> Generator[pa.RecordBatchReader, None, None]:
        with self._guarded() as cursor:
            parsed = duckdb.extract_statements(statement)
            if len(parsed) != 1:
                raise QueryError(f"expected one SQL statement, got {len(parsed)}")
            if parsed[0].type not in _QUESTIONS:
                name = str(parsed[0].type).rpartition(".")[2]
                if name == "MULTI":
                    name = "PIVOT over values that it does not list; write ON column IN (...)"
                raise QueryError(f"only SELECT-like statements can be run on a store, not {name}")
            relation = cursor.sql(statement)
            if relation is None:
                yield pa.RecordBatchReader.from_batches(pa.schema([]), [])
            else:
                yield with_text(relation).to_arrow_reader()

    def columns(self, view: str = "clips") -> pa.Schema:
        """Columns of a view over all segments, with the types that SQL gives them.

        Parameters
        ----------
        view : {"clips", "events", "recordings"}
            Name of the view.
        """
        return self.select(f"SELECT * FROM {view} LIMIT 0").schema

    def clip_ids(self, *conditions: str | None) -> NDArray[np.int64]:
        """Ids of the clips for which every SQL condition holds, ascending, int64 [n].

        Each condition is parsed as one expression, so it cannot close a parenthesis or start a
        second statement; None holds for every clip.

        Parameters
        ----------
        *conditions : str or None
            SQL conditions over the columns of ``clips``.

        Raises
        ------
        QueryError
            If a condition is not valid over the columns of ``clips``.
        """
        with self._guarded() as cursor:
            matches = _matches(cursor, conditions).project("clip_id").order("clip_id")
            ids: NDArray[np.int64] = np.asarray(matches.fetchnumpy()["clip_id"], dtype=np.int64)
            return ids

    def clips_of_recordings(self, *conditions: str | None) -> dict[str, int]:
        """Count matching clips per recording; see :meth:`clip_ids`.

        Parameters
        ----------
        *conditions : str or None
            SQL conditions over the columns of ``clips``; by default all clips.
        """
        with self._guarded() as cursor:
            matches = _matches(cursor, conditions).aggregate("recording_id, count(*)")
            return dict(matches.fetchall())

    def rows(self, clip_ids: NDArray[np.int64]) -> pa.Table:
        """All metadata of the given clips, in the given order; unknown ids are left out.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        """
        distinct, inverse = np.unique(clip_ids, return_inverse=True)
        listed = ", ".join(map(str, distinct.tolist())) or "NULL"
        table = self.select(f"SELECT * FROM clips WHERE clip_id IN ({listed}) ORDER BY clip_id")
        known = numpy_of(table["clip_id"])
        row_of = np.full(len(distinct), -1)
        row_of[np.isin(distinct, known)] = np.arange(len(known))
        rows = row_of[inverse]
        return table.take(int64s(rows[rows >= 0]))

    def clip_schema(self) -> pa.Schema:
        """Columns of ``clips`` over all segments, as SQL sees them."""
        return self.select("SELECT * FROM clips LIMIT 0").schema

    def runs(self, column: str, value: str) -> tuple[tuple[int, int], ...]:
        """Clip ids of a subject or a recording, as (first, last) runs.

        Parameters
        ----------
        column : {"subject_id", "recording_id"}
            Column that holds the id.
        value : str
            The id.
        """
        ids = self.clip_ids(f"{column} = {quote_text(value)}")
        return tuple(as_ranges(ids))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _guarded(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._connection.cursor()
        limit_s = TIME_LIMIT_S if self._time_limit_s is None else self._time_limit_s
        damaged: FormatError | None = None
        try:
            timed = interrupted_after(limit_s, cursor.interrupt)
            with timed, snapshot_guard(self._store, self._manifest):
                damaged = self._show_tables(cursor)
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                yield cursor
        except duckdb.InterruptException:
            raise QueryError(f"the statement ran longer than {limit_s:g} s") from None
        except duckdb.Error as error:
            sentence = _one_sentence(error)
            if damaged is not None and "Table with name labels " in sentence:
                raise damaged from error
            if isinstance(error, duckdb.PermissionException):
                sentence += "; `sleepfm-index annotate FILE` adds the columns of a table to a store"
            raise QueryError(sentence) from error
        except pa.ArrowException as error:
            raise FormatError(
                f"the tables of {self._store} cannot be read: {_one_sentence(error)}; "
                "run `sleepfm-index verify`"
            ) from error
        finally:
            cursor.close()  # which rolls back

    def _show_tables(self, cursor: duckdb.DuckDBPyConnection) -> FormatError | None:
        """Register the views; damaged labels fail only the queries that read them."""
        for view in VIEWS:
            datasets = self._tables[view]
            if len(datasets) == 1:
                cursor.register(view, datasets[0])
                continue
            # A column of numbers in one build and of text in another becomes text.
            for number, dataset in enumerate(datasets):
                cursor.register(f"{view}_{number}", dataset)
            parts = (f"SELECT * FROM {view}_{number}" for number in range(len(datasets)))
            cursor.execute(f"CREATE TEMP VIEW {view} AS {' UNION ALL BY NAME '.join(parts)}")
        try:
            labels = label_table(self._store)
        except FormatError as error:
            return error
        # Labels of deleted clips stay in their files until a compaction has come to its end.
        ids = np.asarray(labels["clip_id"].to_numpy(), np.int64)
        labelled = self._labelled
        if not np.array_equal(ids, labelled[0]):
            cursor.register("labels", labels)
            found = cursor.sql("SELECT clip_id FROM labels SEMI JOIN clips USING (clip_id)")
            labelled = self._labelled = ids, np.isin(ids, found.fetchnumpy()["clip_id"])
        cursor.register("labels", labels.filter(pa.array(labelled[1])))
        return None


def _close_own(connection: duckdb.DuckDBPyConnection, process: int) -> None:
    if os.getpid() == process:  # a forked child must not touch its parent's connection
        connection.close()


def connect(
    config: Mapping[str, str | bool | int | float | list[str]],
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB that no statement can make read or write a file.

    Parameters
    ----------
    config : mapping
        At least :data:`SETTINGS`.
    """
    connection = duckdb.connect(":memory:", config=dict(config))
    for statement in _LOCKED:
        connection.execute(statement)
    return connection


def _matches(
    cursor: duckdb.DuckDBPyConnection, conditions: tuple[str | None, ...]
) -> duckdb.DuckDBPyRelation:
    matches = cursor.sql("SELECT * FROM clips").set_alias("clips")
    for condition in conditions:
        if condition is not None:
            matches = matches.filter(condition).set_alias("clips")
    return matches


def _one_sentence(error: Exception) -> str:
    # DuckDB appends an excerpt of the statement after a blank line.
    first = " ".join(str(error).split("\n\n")[0].split())
    if "does not exist!" in first and first.startswith("Catalog Error: Table "):
        known = f"the tables are {', '.join(VIEWS)} and labels"
        return first.partition("!")[0] + "; " + known
    return first
