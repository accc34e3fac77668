"""Features of clips: the vectors of one modality, or of several concatenated."""

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
"""Function that returns the vectors of rows of labelled clips, float32 [m, d]."""
ReaderOf = Callable[[Reader, NDArray[np.int64], str], Read]
"""Function like :func:`feature_reader`: a :data:`Read` for a store, clip ids and features."""


def feature_list(on: str | Sequence[str]) -> list[str]:
    """Split ``"bas,ecg"`` into a list of features; a sequence is returned as a list.

    Parameters
    ----------
    on : str or sequence of str
        Feature names, or one string of names separated by commas.
    """
    if isinstance(on, str):
        return [part.strip() for part in on.split(",") if part.strip()]
    return list(on)


def default_features(store: Reader, labels: Labels) -> list[str]:
    """Every modality of the labelled clips, and all of them concatenated.

    Parameters
    ----------
    store : Reader
        The open store.
    labels : Labels
        The labelled clips.
    """
    present = [m for m in store.manifest.modalities if has(store, labels.clip_ids, m).any()]
    concatenated = "+".join(present)
    if len(present) > 1 and have_features(store, labels, concatenated).any():
        present.append(concatenated)
    if not present:
        raise QueryError(f"no clip with a label for {labels.name} has a vector")
    return present


def check_features(features: str, known: tuple[str, ...]) -> list[str]:
    """Split features such as ``bas+ecg`` into modalities.

    Parameters
    ----------
    features : str
        Modalities, joined by ``+``.
    known : tuple of str
        The modalities of the store.

    Raises
    ------
    QueryError
        If a modality is unknown or duplicate.
    """
    names = features.split("+")
    if any(n not in known for n in names) or len(set(names)) < len(names):
        raise QueryError(f"no features {features!r}; join some of {', '.join(known)} by +")
    return names


def have_features(store: Reader, labels: Labels, features: str) -> NDArray[np.bool_]:
    """Mask of labelled clips with vectors of all modalities of the features, bool [n].

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
    """Return a function that reads concatenated vectors, float32 [m, 512 per modality].

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
        for i, modality in enumerate(parts):
            columns = slice(i * EMBEDDING_DIM, (i + 1) * EMBEDDING_DIM)
            for start in range(0, len(rows), BLOCK_ROWS):
                block = slice(start, start + BLOCK_ROWS)
                ids = clip_ids[rows[block]]
                x[block, columns] = store.vectors.of(ids, modality)[0]
        return x

    return read


def predict_rows(fitted: Probe, read: Read, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Predict rows in blocks, so that memory does not grow with the store.

    Parameters
    ----------
    fitted : Probe
        The fitted probe.
    read : callable
        Function that reads the vectors of rows.
    rows : ndarray of int64, shape [m]
        Rows to predict.
    """
    blocks = [rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS)]
    return np.concatenate([fitted.predict(read(block)) for block in blocks])
