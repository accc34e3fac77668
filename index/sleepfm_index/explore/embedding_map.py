"""Coordinates of clips in two dimensions, and their colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.building.annotate import annotate
from sleepfm_index.errors import QueryError, StoreLocked
from sleepfm_index.evaluation.figures.embedding_map import project
from sleepfm_index.evaluation.models.features import (
    check_features,
    feature_reader,
    predict_rows,
)
from sleepfm_index.evaluation.models.predict import check_probe
from sleepfm_index.explore import labelling
from sleepfm_index.explore.answers import Table
from sleepfm_index.explore.session import Session
from sleepfm_index.query.no_hits import no_clip_meets
from sleepfm_index.reader import Reader
from sleepfm_index.runtime.threads import one_thread
from sleepfm_index.schema import check_modality
from sleepfm_index.storage.arrow_columns import aligned, int64s
from sleepfm_index.storage.quoting import quote_name
from sleepfm_index.storage.vector_format import widen

METHODS: Final = ("pca", "umap")
LIMIT: Final = 200_000
"""Maximum number of points of a map; larger sets are sampled by a hash of the ids."""
_MAX_FITTED: Final = 20_000
"""Maximum number of clips from which principal axes are computed."""
_MAX_UMAP: Final = 20_000
"""Maximum number of clips of a UMAP."""
_BLOCK: Final = 1 << 13
_LONG_RUN: Final = 64
"""Average number of adjacent clips above which their vectors are read without a copy."""


@dataclass(frozen=True)
class Map:
    """Clips on a map and their coordinates.

    Parameters
    ----------
    ids : ndarray of int64, shape [n]
        Clip ids, ascending.
    positions : ndarray of float32, shape [n, 2]
        Coordinates within -1 ... 1, with the same scale on both axes.
    axes : tuple of str
        Labels of the axes.
    total : int
        Number of matching clips; more than n if they were sampled.
    scan : str
        SQL ``WHERE`` clause that limits a scan of ``clips`` to these and few others.
    fresh : bool
        Whether this is a UMAP that the store does not have as columns yet.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.float32]
    axes: tuple[str, str]
    total: int
    scan: str = ""
    fresh: bool = False


def points(session: Session, modality: str, method: str, where: str | None, limit: int) -> Table:
    """Return clip_id, x and y of a map.

    Parameters
    ----------
    session : Session
        The session, with the cache of the store's snapshot.
    modality : str
        Name of the modality.
    method : str
        ``pca`` or ``umap``.
    where : str or None
        SQL condition over the columns of ``clips``; by default all clips.
    limit : int
        Maximum number of clips on the map.
    """
    store, drawn = session.with_store(
        lambda store: (store, _map(session, store, modality, method, where, limit))
    )
    shown = len(drawn.ids)
    note = f"{modality}: {shown:,} clips"
    if shown < drawn.total:
        note = f"{modality}: {shown:,} of {drawn.total:,} clips, sampled by a hash of their ids"
    rows = pa.table(
        {
            "clip_id": int64s(drawn.ids).cast(pa.int32()),
            "x": pa.array(np.ascontiguousarray(drawn.positions[:, 0])),
            "y": pa.array(np.ascontiguousarray(drawn.positions[:, 1])),
        }
    )
    if drawn.fresh and where is None and session.annotate:
        note += _write_umap(store, modality, drawn)
    about: dict[str, Any] = {
        "total": drawn.total,
        "axes": list(drawn.axes),
        "snapshot": store.manifest.snapshot,
    }
    return Table(rows, note, about)


def values(
    session: Session, modality: str, method: str, where: str | None, limit: int, by: str
) -> Table:
    """Return one value per point of a map, in its order.

    Parameters
    ----------
    session : Session
        The session, with the cache of the store's snapshot.
    modality : str
        Name of the modality.
    method : str
        ``pca`` or ``umap``.
    where : str or None
        SQL condition over the columns of ``clips``; by default all clips.
    limit : int
        Maximum number of clips on the map.
    by : str
        A column of ``clips``, ``label:<label column>``, or ``probe:<name>:<class>``.
    """

    def run(store: Reader) -> Table:
        drawn = _map(session, store, modality, method, where, limit)
        source, _, name = by.partition(":")

        def compute() -> pa.Array:
            if name and source == "probe":
                return _coded(_probability(session, store, drawn, name))
            return _coded(_column(store, drawn, by))

        if name and source == "label":  # labels change without a new snapshot
            column = _coded(labelling.aligned(session.path, name, drawn.ids))
        else:
            key = ("values", store.manifest.snapshot, modality, method, where, limit, by)
            column = session.cached(key, compute)
        about = {"snapshot": store.manifest.snapshot}
        return Table(pa.table({"value": column}), f"{by} of {len(drawn.ids):,} clips", about)

    return session.with_store(run)


def _map(
    session: Session, store: Reader, modality: str, method: str, where: str | None, limit: int
) -> Map:
    check_modality(modality, store.manifest.modalities)
    if method not in METHODS:
        raise QueryError(f"unknown method {method!r}; choose from {', '.join(METHODS)}")
    limit = max(1, min(limit, LIMIT))
    key = ("map", store.manifest.snapshot, modality, method, where, limit)
    return session.cached(key, lambda: _draw(store, modality, method, where, limit))


def _draw(store: Reader, modality: str, method: str, where: str | None, limit: int) -> Map:
    has, scan = f"has_{modality}", ""
    names = set(store.metadata.columns().names)
    stored = method == "umap" and names.issuperset(_umap_columns(modality))
    if stored:
        has = " AND ".join(f"{name} IS NOT NULL" for name in _umap_columns(modality))
    elif method == "umap":
        limit = min(limit, _MAX_UMAP)
    if where is None:
        total = int(store.sql(f"SELECT count(*) AS n FROM clips WHERE {has}").to_pylist()[0]["n"])
        share = total // limit
        # DuckDB applies this filter during the scan, so that few more ids than needed are returned
        sample = f"hash(clip_id) % {share} = 0" if share > 1 else None
        scan = f" WHERE {sample}" if sample else ""
        ids = store.metadata.clip_ids(has, sample)
    else:
        ids = store.metadata.clip_ids(has, where)
        total = len(ids)
    if len(ids) > limit:
        ids = np.sort(np.random.default_rng(0).choice(ids, limit, replace=False))
    if len(ids) < 3:
        if where is not None and not len(store.metadata.clip_ids(where)):
            raise QueryError(no_clip_meets(store, where))
        raise QueryError(
            f"a map needs at least 3 clips with {modality}, got {len(ids)}; choose another "
            "modality or a wider filter"
        )
    if stored:
        positions, axes = _stored(store, ids, modality), ("UMAP 1", "UMAP 2")
    elif method == "umap":
        vectors, _ = store.vectors.of(ids, modality)
        positions, axes = project(vectors, "umap", 0)
    else:
        positions, axes = _principal(store, ids, modality)
    return Map(ids, _scaled(positions), axes, total, scan, fresh=method == "umap" and not stored)


def _umap_columns(modality: str) -> tuple[str, str]:
    return f"umap_{modality}_x", f"umap_{modality}_y"


def _stored(store: Reader, ids: NDArray[np.int64], modality: str) -> NDArray[np.float64]:
    x, y = _umap_columns(modality)
    rows = aligned(store.rows(ids), ids)
    return np.column_stack([rows[x].to_numpy(), rows[y].to_numpy()]).astype(np.float64)


def _write_umap(store: Reader, modality: str, drawn: Map) -> str:
    """Write a UMAP to columns of the store's clips and return a note on it."""
    x, y = _umap_columns(modality)
    table = pa.table(
        {
            "clip_id": int64s(drawn.ids),
            x: pa.array(drawn.positions[:, 0].astype(np.float64)),
            y: pa.array(drawn.positions[:, 1].astype(np.float64)),
        }
    )
    try:
        annotate(store.path, table)
    except StoreLocked:
        return "; it is not kept, as another process is writing to the store"
    return f"; it is kept as the columns {x} and {y}"


def _principal(
    store: Reader, ids: NDArray[np.int64], modality: str
) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Project clips on two principal axes, computed from at most :data:`_MAX_FITTED` of them."""
    step = -(-len(ids) // _MAX_FITTED)
    sample, _ = store.vectors.of(ids[::step], modality)
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample - mean.astype(np.float32)
    with one_thread():
        spread, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    first = directions[:, [-1, -2]]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])  # fixes the sign
    share = spread[[-1, -2]] / max(float(spread.sum()), 1e-12)
    narrow = np.ascontiguousarray(first, np.float32)
    with one_thread():  # threads cost more than they gain for a product with two columns
        positions = np.concatenate([block @ narrow for block in _blocks(store, ids, modality)])
    one, two = (f"principal axis {i}, {s:.0%} of variance" for i, s in enumerate(share, 1))
    return positions - mean @ first, (one, two)


def _blocks(store: Reader, ids: NDArray[np.int64], modality: str) -> Iterator[NDArray[np.float32]]:
    """Vectors of clips in blocks; adjacent rows are converted where they lie, not copied first."""
    if np.count_nonzero(np.diff(ids) != 1) > len(ids) // _LONG_RUN:
        for start in range(0, len(ids), _BLOCK):
            yield store.vectors.of(ids[start : start + _BLOCK], modality)[0]
        return
    for _, rows in store.vectors.stored(ids, modality):
        for start in range(0, len(rows), _BLOCK):
            yield widen(rows[start : start + _BLOCK])


def _scaled(positions: NDArray[np.float64]) -> NDArray[np.float32]:
    low, high = positions.min(axis=0), positions.max(axis=0)
    half = max(float((high - low).max()) / 2, 1e-12)
    scaled: NDArray[np.float32] = ((positions - (low + high) / 2) / (1.05 * half)).astype(
        np.float32
    )
    return scaled


def _column(store: Reader, drawn: Map, name: str) -> pa.Array:
    schema = store.sql("SELECT * FROM clips LIMIT 0").table.schema
    if name not in schema.names:
        raise QueryError(f"clips have no column {name[:80]!r}")
    if pa.types.is_nested(schema.field(name).type):
        raise QueryError(
            f"{name} contains lists, which cannot be shown as colours; choose another column"
        )
    # the hash that sampled the clips selects their rows during the scan
    rows = store.sql(f"SELECT clip_id, {quote_name(name)} AS value FROM clips{drawn.scan}").table
    known = rows["clip_id"].to_numpy()
    order = np.argsort(known)
    rows_of_points = order[np.searchsorted(known, drawn.ids, sorter=order)]
    return rows["value"].combine_chunks().take(pa.array(rows_of_points))


def _coded(column: pa.Array) -> pa.Array:
    """Texts and flags as codes of a dictionary, all else as float32."""
    if pa.types.is_string(column.type) or pa.types.is_boolean(column.type):
        return column.cast(pa.string()).dictionary_encode()
    return column.cast(pa.float32())


def _probability(session: Session, store: Reader, drawn: Map, name: str) -> pa.Array:
    probe_name, _, class_name = name.rpartition(":")
    probe_name = probe_name or class_name
    probe = session.probe(probe_name)
    check_probe(store, probe)
    features = str(probe.about.get("features"))
    present = np.ones(len(drawn.ids), bool)
    for modality in check_features(features, store.manifest.modalities):
        present &= store.vectors.of(drawn.ids, str(modality))[1]
    predictions = predict_rows(
        probe, feature_reader(store, drawn.ids, features), np.flatnonzero(present)
    )
    result = np.full(len(drawn.ids), np.nan, np.float32)
    if probe.classes:
        if class_name not in probe.classes:
            raise QueryError(
                f"{probe_name} has the classes {', '.join(probe.classes)}, not {class_name!r}"
            )
        result[present] = predictions[:, probe.classes.index(class_name)]
    else:
        result[present] = predictions
    return pa.array(result, from_pandas=True)
