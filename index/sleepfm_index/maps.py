"""A map of embeddings in two dimensions: PCA, or UMAP where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.columns import clip_columns, codes, has, numbers
from sleepfm_index.errors import QueryError
from sleepfm_index.plots import STAGE_COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sleepfm_index.store import Store

METHODS: Final = ("pca", "umap")
CLIPS: Final = 5000


def embedding_map(
    store: Store,
    modality: str = "bas",
    by: str = "stage",
    ax: Axes | None = None,
    *,
    where: str | None = None,
    method: str = "pca",
    clips: int = CLIPS,
    seed: int = 0,
) -> Axes:
    """Draw clips where their vectors lie, coloured by a column.

    Parameters
    ----------
    modality : {"bas", "ecg", "resp"}
    by : str
        A column of ``clips``: names get one colour each, quantities a colour scale.
    where : str, optional
        SQL condition over the columns of ``clips``.
    method : {"pca", "umap"}
        The first two principal axes, or UMAP (the extra ``umap``).
    clips : int
        Draw at most this many clips, chosen at random by the seed.

    Raises
    ------
    QueryError
        If the question does not fit the store, or UMAP is not installed.
    """
    if method not in METHODS:
        raise QueryError(f"no method {method!r}; choose from {', '.join(METHODS)}")
    if modality not in [m.value for m in Modality]:
        raise QueryError(f"no modality {modality!r}; choose from {', '.join(Modality)}")
    ids = store.metadata.clip_ids(where)
    ids = ids[has(store, ids, modality)]
    if len(ids) < 3:
        raise QueryError(f"a map needs at least 3 clips with {modality}, there are {len(ids)}")
    if len(ids) > clips:
        ids = np.sort(np.random.default_rng(seed).choice(ids, clips, replace=False))
    vectors, _ = store.vectors.of(ids, modality)
    place, labels = project(vectors, method, seed)
    ax = axes(ax, 6.0, 5.0)
    _scatter(ax, place, store, ids, by)
    ax.set(xlabel=labels[0], ylabel=labels[1], title=f"{modality} of {len(ids):,} clips")
    return ax


def project(
    vectors: NDArray[np.float32], method: str = "pca", seed: int = 0
) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Bring vectors to two dimensions.

    Returns
    -------
    place : ndarray of float64, shape [n, 2]
    labels : tuple of str
        What the axes are; for PCA with the share of the variance.
    """
    if method == "umap":
        try:
            from umap import UMAP
        except ImportError:
            raise QueryError(
                "UMAP is not installed; pip install 'sleepfm-index[umap]', or take --map pca"
            ) from None
        place = UMAP(metric="cosine", random_state=seed, n_jobs=1).fit_transform(vectors)
        return np.asarray(place, np.float64), ("UMAP 1", "UMAP 2")
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    spread, directions = np.linalg.eigh(centred.T @ centred)
    first = directions[:, [-1, -2]]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])  # one of two signs
    share = spread[[-1, -2]] / max(spread.sum(), 1e-12)
    one, two = (f"principal axis {i} ({s:.1%} of variance)" for i, s in enumerate(share, 1))
    return centred @ first, (one, two)


def _scatter(
    ax: Axes, place: NDArray[np.float64], store: Store, ids: NDArray[np.int64], by: str
) -> None:
    column = clip_columns(store, ids, [by])[by]
    x, y = place.T
    if column.type in ("float", "double"):
        points = ax.scatter(x, y, c=numbers(column), s=6, cmap="viridis", linewidths=0)
        ax.figure.colorbar(points, ax=ax, label=by)
        return
    code, names = codes(column)
    if len(names) > 20:
        ax.scatter(x, y, c=code, s=6, cmap="hsv", linewidths=0)
        ax.annotate(f"{len(names)} values of {by}", (0.02, 0.02), xycoords="axes fraction")
        return
    for at, name in enumerate(names):
        chosen = code == at
        colour = STAGE_COLOURS.get(str(name)) if by == "stage" else None
        ax.scatter(x[chosen], y[chosen], s=6, color=colour, label=str(name), linewidths=0)
    ax.legend(title=by, markerscale=2.5, fontsize="small")
