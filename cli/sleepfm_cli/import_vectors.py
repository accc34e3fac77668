"""``sleepfm-index import``: create a store from vectors of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, Format, FormatOption, StoreOption
from sleepfm_cli.render import say, show_arrow, show_table


def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Parquet, npz or HDF5 files, or folders of them."),
    ],
    name: Annotated[
        str, typer.Option(help="Name of the model that made the vectors, e.g. sleepfm-clinical.")
    ],
    subjects: Annotated[
        Path | None, typer.Option(help="subjects.csv: recording_id, subject_id, site, nsrr_* ...")
    ] = None,
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Import vectors of another program into a new store.

    Query, evaluate, probe and export then work as on any store. Vectors of up to 512 dimensions;
    what the files must hold is in docs/format.md.
    """
    from sleepfm_index.building.import_vectors import import_vectors

    result = import_vectors(store, paths, name=name, subjects=subjects)
    if format is not Format.table:
        show_arrow(result.table, format)
        return
    rows = result.to_pylist()
    show_table([tuple(row.values()) for row in rows], tuple(rows[0]))
    added = sum(row["outcome"] == "added" for row in rows)
    say(f"{added} recordings added, {len(rows) - added} already there -> {store}")
