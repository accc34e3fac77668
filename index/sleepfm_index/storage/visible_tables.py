"""The tables of a snapshot as Arrow datasets without deleted rows.

SQL runs over these datasets only: DuckDB gets scanners instead of paths, so no statement can write
to a file of the store, read a deleted row, or take the name of a folder for a column.
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

_MAX_SEGMENTS_PAGE_CHECK: Final = 64
"""Largest number of segments for which all page headers are read before SQL runs, which takes as
long per night as reading the footer. In larger stores only `verify` reads them."""
_FEW_RANGES: Final = 16
_DICTIONARY_ENCODED: Final = frozenset({"stage", "raw_stage", "site", "nsrr_sex"})
"""Columns of few values, read dictionary-encoded: GROUP BY takes a quarter of the time."""

Visible = dict[str, "list[ds.Dataset]"]


def visible_tables(store: Path, manifest: Manifest) -> Visible:
    """Open the tables of all segments without deleted clips and withdrawn recordings.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot to read.

    Returns
    -------
    dict of str to list of pyarrow.dataset.Dataset
        For each name of :data:`VIEWS`, one dataset per group of segments whose column types
        agree; usually one, never none.

    Raises
    ------
    FormatError
        If a file differs from the manifest.
    """
    # Imported here because it loads pandas if installed, which only SQL should wait for: pyarrow
    # does so when it first converts a Python value, and its datasets convert one on import.
    import pyarrow.dataset as ds

    hidden = {"clips": _not_deleted(manifest)}
    if manifest.withdrawn:
        withdrawn = pc.field("source").isin(pa.array(manifest.withdrawn, pa.string()))
        hidden |= {"events": ~withdrawn, "recordings": ~withdrawn}
    visible: Visible = {}
    empty = {
        "clips": clip_schema(manifest.modalities),
        "events": EVENT_COLUMNS,
        "recordings": RECORDING_COLUMNS,
    }
    for view, file in VIEWS.items():
        pages = len(manifest.segments) <= _MAX_SEGMENTS_PAGE_CHECK
        paths = [check_table(store, s, file, pages=pages) for s in manifest.segments]
        # columns that no segment has yet are null
        known = RECORDING_COLUMNS if view == "recordings" else None
        later = LATER_CLIP_COLUMNS if view == "clips" else pa.schema([])
        modalities = manifest.modalities if view == "clips" else None
        datasets = _datasets(paths, modalities, known, later) or [
            ds.InMemoryDataset(empty[view].empty_table())
        ]
        keep = hidden.get(view)
        visible[view] = datasets if keep is None else [d.filter(keep) for d in datasets]
    return visible


def _datasets(
    paths: list[Path],
    modalities: tuple[str, ...] | None,
    columns: pa.Schema | None,
    later: pa.Schema,
) -> list[ds.Dataset]:
    """Datasets of the files; ``columns`` come first, ``later`` are appended where missing."""
    import pyarrow.dataset as ds

    # Fragments instead of a list of paths, so that no schema is inferred from the first file:
    # segments may differ in their columns.
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
        group = known.get(signature)
        if group is None:
            check_columns(path, schema, modalities)
            group = next((i for i, (s, _) in enumerate(groups) if _agree(s, schema)), len(groups))
            if group == len(groups):
                groups.append((schema, []))
            else:
                groups[group] = (pa.unify_schemas([groups[group][0], schema]), groups[group][1])
            known[signature] = group
        groups[group][1].append(fragment)
    datasets = []
    for common, fragments in groups:
        missing = [f for f in later if f.name not in common.names]
        schema = pa.schema([*common, *missing])
        texts = {f.name for f in schema if f.type == pa.string()}
        encoded = texts & _DICTIONARY_ENCODED
        options = ds.ParquetReadOptions(dictionary_columns=encoded)
        checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        form = ds.ParquetFileFormat(read_options=options, default_fragment_scan_options=checked)
        encoded_fragments = [form.make_fragment(f.path, system) for f in fragments]
        types = [
            pa.field(f.name, pa.dictionary(pa.int32(), f.type)) if f.name in encoded else f
            for f in schema
        ]
        datasets.append(ds.FileSystemDataset(encoded_fragments, pa.schema(types), form, system))
    return datasets


def _agree(first: pa.Schema, second: pa.Schema) -> bool:
    types = {f.name: f.type for f in first}
    return all(types.get(f.name, f.type) == f.type for f in second)


def _not_deleted(manifest: Manifest) -> pc.Expression | None:
    ranges = manifest.deleted
    if not ranges:
        return None
    clip = pc.field("clip_id")
    if len(ranges) <= _FEW_RANGES:
        # With ranges, whole row groups are skipped by their statistics.
        keep = (clip < ranges[0][0]) | (clip > ranges[-1][1])
        for (_, before), (after, _) in pairwise(ranges):
            keep = keep | ((clip > before) & (clip < after))
        return keep
    ids = np.concatenate([np.arange(first, last + 1) for first, last in ranges])
    return ~clip.isin(pa.array(ids, pa.int64()))
