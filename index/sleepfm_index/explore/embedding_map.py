"""Coordinates of clips in two dimensions, and their colours."""

from __future__ import annotations

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
from sleepfm_index.storage.metadata import aligned, int64s
from sleepfm_index.storage.quoting import quote_name

METHODS: Final = ("pca", "umap")
LIMIT: Final = 200_000
"""Maximum number of points of a map; larger sets are sampled by a hash of the ids."""
_LEARNED: Final = 20_000
_UMAP: Final = 20_000
_BLOCK: Final = 1 << 13


@dataclass(frozen=True)
class Map:
    """A map: which clips, and where.

    Parameters
    ----------
    ids : ndarray of int64, shape [n], ascending
    place : ndarray of float32, shape [n, 2]
        Scaled to -1 ... 1, both axes alike.
    axes : tuple of str
    total : int
        Clips that fit; more than n where the map shows some of them.
    scan : str
        SQL that narrows a scan of ``clips`` to few more than these.
    fresh : bool
        Whether it took minutes to compute and is no column of the store yet.
    """

    ids: NDArray[np.int64]
    place: NDArray[np.float32]
    axes: tuple[str, str]
    total: int
    scan: str = ""
    fresh: bool = False


def points(session: Session, modality: str, method: str, where: str | None, limit: int) -> Table:
    """Return clip_id, x and y of a map.

    Parameters
    ----------
    session : Session
        The store and what is cached for its snapshot.
    modality : str
        Name of the modality.
    method : str
        ``pca`` or ``umap``.
    where : str or None
        SQL condition over the columns of ``clips``; by default all clips.
    limit : int
        Largest number of clips on the map.
    """
    store, drawn = session.asked(
        lambda store: (store, _map(session, store, modality, method, where, limit))
    )
    shown = len(drawn.ids)
    note = f"{modality}: {shown:,} clips"
    if shown < drawn.total:
        note = f"{modality}: {shown:,} of {drawn.total:,} clips, sampled by a hash of their ids"
    rows = pa.table(
        {
            "clip_id": int64s(drawn.ids).cast(pa.int32()),
            "x": pa.array(np.ascontiguousarray(drawn.place[:, 0])),
            "y": pa.array(np.ascontiguousarray(drawn.place[:, 1])),
        }
    )
    if drawn.fresh and where is None and session.annotate:
        note += _keep(store, modality, drawn)
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
        The store and what is cached for its snapshot.
    modality : str
        Name of the modality.
    method : str
        ``pca`` or ``umap``.
    where : str or None
        SQL condition over the columns of ``clips``; by default all clips.
    limit : int
        Largest number of clips on the map.
    by : str
        A column of ``clips``, ``label:<own column>``, or ``probe:<name>:<class>``.
    """

    def ask(store: Reader) -> Table:
        drawn = _map(session, store, modality, method, where, limit)
        kind, _, name = by.partition(":")
        if name and kind == "probe":
            column = _probability(session, store, drawn, name)
        elif name and kind == "label":
            column = labelling.aligned(session.path, name, drawn.ids)
        else:
            column = _column(store, drawn, by)
        if pa.types.is_string(column.type) or pa.types.is_boolean(column.type):
            column = column.cast(pa.string()).dictionary_encode()
        else:
            column = column.cast(pa.float32())
        about = {"snapshot": store.manifest.snapshot}
        return Table(pa.table({"value": column}), f"{by} of {len(drawn.ids):,} clips", about)

    return session.asked(ask)


def _map(
    session: Session, store: Reader, modality: str, method: str, where: str | None, limit: int
) -> Map:
    check_modality(modality, store.manifest.modalities)
    if method not in METHODS:
        raise QueryError(f"unknown method {method!r}; choose from {', '.join(METHODS)}")
    limit = max(1, min(limit, LIMIT))
    key = ("map", store.manifest.snapshot, modality, method, where, limit)
    return session.kept(key, lambda: _draw(store, modality, method, where, limit))


def _draw(store: Reader, modality: str, method: str, where: str | None, limit: int) -> Map:
    has, scan = f"has_{modality}", ""
    there = set(store.metadata.columns().names)
    stored = method == "umap" and there.issuperset(_umap_columns(modality))
    if stored:
        has = " AND ".join(f"{name} IS NOT NULL" for name in _umap_columns(modality))
    elif method == "umap":
        limit = min(limit, _UMAP)
    if where is None:
        total = int(store.sql(f"SELECT count(*) AS n FROM clips WHERE {has}").to_pylist()[0]["n"])
        share = total // limit
        # A filter that DuckDB applies while it scans, so that no more ids than needed are made.
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
        place, axes = _stored(store, ids, modality), ("UMAP 1", "UMAP 2")
    elif method == "umap":
        vectors, _ = store.vectors.of(ids, modality)
        place, axes = project(vectors, "umap", 0)
    else:
        place, axes = _principal(store, ids, modality)
    return Map(ids, _scaled(place), axes, total, scan, fresh=method == "umap" and not stored)


def _umap_columns(modality: str) -> tuple[str, str]:
    return f"umap_{modality}_x", f"umap_{modality}_y"


def _stored(store: Reader, ids: NDArray[np.int64], modality: str) -> NDArray[np.float64]:
    x, y = _umap_columns(modality)
    rows = aligned(store.rows(ids), ids)
    return np.column_stack([rows[x].to_numpy(), rows[y].to_numpy()]).astype(np.float64)


def _keep(store: Reader, modality: str, drawn: Map) -> str:
    """Write a UMAP into the store, as columns of its clips; say so, or why not."""
    x, y = _umap_columns(modality)
    table = pa.table(
        {
            "clip_id": int64s(drawn.ids),
            x: pa.array(drawn.place[:, 0].astype(np.float64)),
            y: pa.array(drawn.place[:, 1].astype(np.float64)),
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
    """First two principal axes, learned from at most :data:`_LEARNED` of the clips."""
    step = -(-len(ids) // _LEARNED)
    sample, _ = store.vectors.of(ids[::step], modality)
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample - mean.astype(np.float32)
    with one_thread():
        spread, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    first = directions[:, [-1, -2]]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])  # one of two signs
    share = spread[[-1, -2]] / max(float(spread.sum()), 1e-12)
    place = np.empty((len(ids), 2))
    narrow = first.astype(np.float32)
    for start in range(0, len(ids), _BLOCK):
        some = slice(start, start + _BLOCK)
        place[some] = store.vectors.of(ids[some], modality)[0] @ narrow
    one, two = (f"principal axis {i}, {s:.0%} of variance" for i, s in enumerate(share, 1))
    return place - mean @ first, (one, two)


def _scaled(place: NDArray[np.float64]) -> NDArray[np.float32]:
    low, high = place.min(axis=0), place.max(axis=0)
    half = max(float((high - low).max()) / 2, 1e-12)
    scaled: NDArray[np.float32] = ((place - (low + high) / 2) / (1.05 * half)).astype(np.float32)
    return scaled


def _column(store: Reader, drawn: Map, name: str) -> pa.Array:
    there = store.sql("SELECT * FROM clips LIMIT 0").table.schema
    if name not in there.names:
        raise QueryError(f"clips have no column {name[:80]!r}")
    kind = there.field(name).type
    if pa.types.is_nested(kind):
        raise QueryError(
            f"{name} contains lists, which cannot be shown as colours; choose another column"
        )
    # The hash that drew the clips picks their rows while DuckDB scans.
    rows = store.sql(f"SELECT clip_id, {quote_name(name)} AS value FROM clips{drawn.scan}").table
    known = rows["clip_id"].to_numpy()
    order = np.argsort(known)
    at = order[np.searchsorted(known, drawn.ids, sorter=order)]
    return rows["value"].combine_chunks().take(pa.array(at))


def _probability(session: Session, store: Reader, drawn: Map, name: str) -> pa.Array:
    probe_name, _, wanted = name.rpartition(":")
    probe_name = probe_name or wanted
    probe = session.probe(probe_name)
    check_probe(store, probe)
    features = str(probe.about.get("features"))
    present = np.ones(len(drawn.ids), bool)
    for modality in check_features(features, store.manifest.modalities):
        present &= store.vectors.of(drawn.ids, str(modality))[1]
    said = predict_rows(probe, feature_reader(store, drawn.ids, features), np.flatnonzero(present))
    result = np.full(len(drawn.ids), np.nan, np.float32)
    if probe.classes:
        if wanted not in probe.classes:
            raise QueryError(
                f"{probe_name} has the classes {', '.join(probe.classes)}, not {wanted!r}"
            )
        result[present] = said[:, probe.classes.index(wanted)]
    else:
        result[present] = said
    return pa.array(result, from_pandas=True)
