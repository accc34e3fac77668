"""Features of clips: the vectors of a modality, or of several side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import has
from sleepfm_index.evaluation.labels.labels import Labels
from sleepfm_index.evaluation.models.probe_kinds import Probe
from sleepfm_index.reader import Reader

BLOCK_ROWS: Final = 32_768

Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Vectors of some rows of labelled clips, float32 [m, d]."""
ReaderOf = Callable[[Reader, NDArray[np.int64], str], Read]
"""Makes a :data:`Read` for a store, clip ids and features, as :func:`feature_reader` does."""


def feature_list(on: str | Sequence[str]) -> list[str]:
    """Return ``"bas"`` as ``["bas"]`` and ``"bas,ecg"`` as two; a sequence stays as it is.

    Parameters
    ----------
    on : str or sequence of str
        Feature names, or one string of names separated by commas.
    """
    if isinstance(on, str):
        return [part.strip() for part in on.split(",") if part.strip()]
    return list(on)


def default_features(store: Reader, labels: Labels) -> list[str]:
    """Every modality that labelled clips have, and all of them together.

    Parameters
    ----------
    store : Reader
        The open store.
    labels : Labels
        The labelled clips.
    """
    there = [m for m in store.manifest.modalities if has(store, labels.clip_ids, m).any()]
    together = "+".join(there)
    if len(there) > 1 and have_features(store, labels, together).any():
        there.append(together)
    if not there:
        raise QueryError(f"no clip with a label for {labels.name} has a vector")
    return there


def check_features(features: str, known: tuple[str, ...]) -> list[str]:
    """Modalities of ``bas``, ``bas+ecg`` and the like.

    Parameters
    ----------
    features : str
        Modalities, joined by ``+``.
    known : tuple of str
        The modalities of the store.

    Raises
    ------
    QueryError
        If one is unknown or named twice.
    """
    names = features.split("+")
    if any(n not in known for n in names) or len(set(names)) < len(names):
        raise QueryError(f"no features {features!r}; join some of {', '.join(known)} by +")
    return names


def have_features(store: Reader, labels: Labels, features: str) -> NDArray[np.bool_]:
    """Mask of labelled clips with vectors of all these modalities, bool [n].

    Parameters
    ----------
    store : Reader
        The open store.
    labels : Labels
        The labelled clips.
    features : str
        Modalities, joined by ``+``.
    """
    named = check_features(features, store.manifest.modalities)
    present = [has(store, labels.clip_ids, m) for m in named]
    return np.asarray(np.logical_and.reduce(present), bool)


def feature_reader(store: Reader, clip_ids: NDArray[np.int64], features: str) -> Read:
    """Read vectors by row of ``clip_ids``, float32 [m, 512 per modality], side by side.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    features : str
        Modalities, joined by ``+``.
    """
    parts = check_features(features, store.manifest.modalities)

    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        x = np.empty((len(rows), EMBEDDING_DIM * len(parts)), np.float32)
        for at, modality in enumerate(parts):
            columns = slice(at * EMBEDDING_DIM, (at + 1) * EMBEDDING_DIM)
            for start in range(0, len(rows), BLOCK_ROWS):
                block = slice(start, start + BLOCK_ROWS)
                ids = clip_ids[rows[block]]
                x[block, columns] = store.vectors.of(ids, modality)[0]
        return x

    return read


def predict_rows(fitted: Probe, read: Read, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Predict rows block by block, so that memory does not grow with the store.

    Parameters
    ----------
    fitted : Probe
        The fitted probe.
    read : callable
        Reads the vectors of given rows.
    rows : ndarray of int64, shape [m]
        Rows to predict.
    """
    blocks = [rows[at : at + BLOCK_ROWS] for at in range(0, len(rows), BLOCK_ROWS)]
    return np.concatenate([fitted.predict(read(block)) for block in blocks])
