"""The tables of a snapshot as Arrow datasets from which deleted rows are already gone.

SQL is run over these and over nothing else: DuckDB is given scanners and no path, so no statement
can write to a file of the store, reach a deleted row, or read meaning into the name of a folder.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from sleepfm_index.schema import (
    EVENT_COLUMNS,
    LATER_CLIP_COLUMNS,
    RECORDING_COLUMNS,
    clip_schema,
)
from sleepfm_index.storage.manifest import Manifest
from sleepfm_index.storage.segments import CLIPS, EVENTS, RECORDINGS, check_table
from sleepfm_index.storage.table_checks import check_columns

if TYPE_CHECKING:
    import pyarrow.dataset as ds

VIEWS: Final = {"clips": CLIPS, "events": EVENTS, "recordings": RECORDINGS}
"""Name in SQL, and the file in each segment."""

_EVERY_PAGE: Final = 64
"""Segments of which every page header is read before SQL: a night takes as long as its footer. In
larger stores `verify` does it."""
_FEW_RANGES: Final = 16
_CODED: Final = frozenset({"stage", "raw_stage", "site", "nsrr_sex"})
"""Columns of few values, read as codes: grouping by one takes a quarter of the time."""

Visible = dict[str, "list[ds.Dataset]"]


def visible_tables(store: Path, manifest: Manifest) -> Visible:
    """Open the tables of all segments, deleted clips and withdrawn recordings left out.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot to read.

    Returns
    -------
    dict of str to list of pyarrow.dataset.Dataset
        For each name of :data:`VIEWS`, one dataset for every set of columns whose types agree;
        most often one. Never empty.

    Raises
    ------
    FormatError
        If a file is not the one that the manifest states.
    """
    # It loads pandas where that is installed, which only a statement in SQL should wait for.
    import pyarrow.dataset as ds

    hidden = {"clips": _not_deleted(manifest)}
    if manifest.withdrawn:
        gone = pc.field("source").isin(pa.array(manifest.withdrawn, pa.string()))
        hidden |= {"events": ~gone, "recordings": ~gone}
    found: Visible = {}
    empty = {
        "clips": clip_schema(manifest.modalities),
        "events": EVENT_COLUMNS,
        "recordings": RECORDING_COLUMNS,
    }
    for view, file in VIEWS.items():
        pages = len(manifest.segments) <= _EVERY_PAGE
        paths = [check_table(store, s, file, pages=pages) for s in manifest.segments]
        # columns that no segment has yet are null
        known = RECORDING_COLUMNS if view == "recordings" else None
        later = LATER_CLIP_COLUMNS if view == "clips" else pa.schema([])
        modalities = manifest.modalities if view == "clips" else None
        datasets = _datasets(paths, modalities, known, later) or [
            ds.InMemoryDataset(empty[view].empty_table())
        ]
        keep = hidden.get(view)
        found[view] = datasets if keep is None else [d.filter(keep) for d in datasets]
    return found


def _datasets(
    paths: list[Path],
    modalities: tuple[str, ...] | None,
    columns: pa.Schema | None,
    later: pa.Schema,
) -> list[ds.Dataset]:
    """Datasets of the files, with the columns that come first, and those that none may have."""
    import pyarrow.dataset as ds

    # Fragments rather than a list of paths: nothing about them is guessed, and a segment that has
    # more columns than another is no reason to read either wrongly.
    system = fs.LocalFileSystem()
    groups: list[tuple[pa.Schema, list[ds.Fragment]]] = []
    if paths and columns is not None:
        groups.append((columns, []))
    known: dict[tuple[str, ...], int] = {}
    for path in paths:
        plain = ds.ParquetFileFormat()
        fragment = plain.make_fragment(str(path), system)
        schema = fragment.physical_schema.remove_metadata()
        signature = tuple(f"{f.name}:{f.type}" for f in schema)
        at = known.get(signature)
        if at is None:
            check_columns(path, schema, modalities)
            at = next((i for i, (s, _) in enumerate(groups) if _agree(s, schema)), len(groups))
            if at == len(groups):
                groups.append((schema, []))
            else:
                groups[at] = (pa.unify_schemas([groups[at][0], schema]), groups[at][1])
            known[signature] = at
        groups[at][1].append(fragment)
    made = []
    for found, fragments in groups:
        missing = [f for f in later if f.name not in found.names]
        schema = pa.schema([*found, *missing])
        coded = {f.name for f in schema if f.name in _CODED and f.type == pa.string()}
        options = ds.ParquetReadOptions(dictionary_columns=coded)
        checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        form = ds.ParquetFileFormat(read_options=options, default_fragment_scan_options=checked)
        own = [form.make_fragment(f.path, system) for f in fragments]
        types = [
            pa.field(f.name, pa.dictionary(pa.int32(), f.type)) if f.name in coded else f
            for f in schema
        ]
        made.append(ds.FileSystemDataset(own, pa.schema(types), form, system))
    return made


def _agree(one: pa.Schema, other: pa.Schema) -> bool:
    types = {f.name: f.type for f in one}
    return all(types.get(f.name, f.type) == f.type for f in other)


def _not_deleted(manifest: Manifest) -> pc.Expression | None:
    ranges = manifest.deleted
    if not ranges:
        return None
    clip = pc.field("clip_id")
    if len(ranges) <= _FEW_RANGES:
        # Ranges let whole row groups be passed over by their statistics.
        keep = (clip < ranges[0][0]) | (clip > ranges[-1][1])
        for (_, before), (after, _) in pairwise(ranges):
            keep = keep | ((clip > before) & (clip < after))
        return keep
    ids = np.concatenate([np.arange(first, last + 1) for first, last in ranges])
    return ~clip.isin(pa.array(ids, pa.int64()))
