"""``sleepfm-index import``: create a store from an export or from vectors of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, Format, FormatOption, ModeOption, StoreOption
from sleepfm_cli.render import say, show_arrow, show_table

_OUTCOMES = ("added", "already there", "left out", "failed")


def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Exports of a store; or Parquet, npz, HDF5 of vectors, or folders."),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the model that made vectors of another program."),
    ] = None,
    subjects: Annotated[
        Path | None, typer.Option(help="subjects.csv: recording_id, subject_id, site, nsrr_* ...")
    ] = None,
    readmit: Annotated[
        bool, typer.Option("--readmit", help="Add deleted recordings and subjects again.")
    ] = False,
    mode: ModeOption = None,
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Import an export of a store, or vectors of another program.

    The store can then be queried, evaluated and exported like any other. If it comes from an
    export, it has the weights of the original store. docs/format.md describes files of other
    vectors.
    """
    from sleepfm_index.building.import_vectors import import_vectors

    result = import_vectors(store, paths, name=name, subjects=subjects, readmit=readmit, mode=mode)
    if format is not Format.table:
        show_arrow(result.table, format)
        return
    rows = result.to_pylist()
    show_table([tuple(row.values()) for row in rows], tuple(rows[0]))
    count = {kind: sum(row["outcome"] == kind for row in rows) for kind in _OUTCOMES}
    say(f"{', '.join(f'{n} {kind}' for kind, n in count.items())} -> {store}")
    if count["failed"] and not count["added"] + count["already there"]:
        raise typer.Exit(1)
