"""Two-dimensional maps of embeddings by PCA, or by UMAP if it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.figures.style import STAGE_COLOURS, axes, class_colour
from sleepfm_index.evaluation.labels.columns import clip_columns, codes, has, numbers
from sleepfm_index.reader import Reader
from sleepfm_index.runtime.threads import one_thread
from sleepfm_index.schema import check_modality

if TYPE_CHECKING:
    from matplotlib.axes import Axes


METHODS: Final = ("pca", "umap")
CLIPS: Final = 5000
"""Default maximum number of clips on a map."""


def embedding_map(
    store: Reader,
    modality: str = "bas",
    by: str = "stage",
    ax: Axes | None = None,
    *,
    where: str | None = None,
    method: str = "pca",
    clips: int = CLIPS,
    seed: int = 0,
) -> Axes:
    """Draw a scatter plot of clips by their vectors, coloured by a column.

    Parameters
    ----------
    store : Reader
        The open store.
    modality : str
        Modality of the vectors.
    by : str
        A column of ``clips``: one colour per category, or a colour scale for a quantity.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.
    where : str, optional
        SQL condition over the columns of ``clips``.
    method : {"pca", "umap"}
        The first two principal axes, or UMAP (needs the extra ``umap``).
    clips : int
        Maximum number of clips, drawn at random.
    seed : int
        Random seed of the selection and of UMAP.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    QueryError
        If the modality or column does not exist, fewer than three clips match, or UMAP is not
        installed.
    """
    drawn = _Map.of(store, modality, where, method, clips, seed)
    ax = axes(ax, 6.0, 5.0)
    drawn.show(ax, store, by)
    return ax


def embedding_maps(
    store: Reader,
    modality: str = "bas",
    by: Sequence[str] = ("stage", "subject_id", "site"),
    *,
    where: str | None = None,
    method: str = "pca",
    clips: int = CLIPS,
    seed: int = 0,
) -> Axes:
    """Draw the same map several times side by side, each coloured by another column.

    Parameters
    ----------
    store, modality, where, method, clips, seed
        As in :func:`embedding_map`.
    by : sequence of str
        Columns of ``clips``, one per map.

    Returns
    -------
    matplotlib.axes.Axes
        Axes of the first map; its figure contains all maps.

    Raises
    ------
    QueryError
        As in :func:`embedding_map`.
    """
    from matplotlib.figure import Figure

    drawn = _Map.of(store, modality, where, method, clips, seed)
    figure = Figure(figsize=(5.4 * len(by), 4.4), layout="constrained")
    panels = figure.subplots(1, len(by), squeeze=False, sharex=True, sharey=True)[0]
    for ax, column in zip(panels, by, strict=True):
        drawn.show(ax, store, column)
        ax.label_outer()
    first: Axes = panels[0]
    return first


@dataclass(frozen=True)
class _Map:
    """Clip ids [n], positions [n, 2], axis labels and title of a map."""

    ids: NDArray[np.int64]
    positions: NDArray[np.float64]
    labels: tuple[str, str]
    title: str

    @classmethod
    def of(
        cls, store: Reader, modality: str, where: str | None, method: str, clips: int, seed: int
    ) -> _Map:
        if method not in METHODS:
            raise QueryError(f"unknown method {method!r}; choose from {', '.join(METHODS)}")
        check_modality(modality, store.manifest.modalities)
        ids = store.metadata.clip_ids(where)
        ids = ids[has(store, ids, modality)]
        if len(ids) < 3:
            raise QueryError(f"a map needs at least 3 clips with {modality}, got {len(ids)}")
        if len(ids) > clips:
            ids = np.sort(np.random.default_rng(seed).choice(ids, clips, replace=False))
        vectors, _ = store.vectors.of(ids, modality)
        positions, labels = project(vectors, method, seed)
        return cls(ids, positions, labels, f"{modality} of {len(ids):,} clips")

    def show(self, ax: Axes, store: Reader, by: str) -> None:
        _scatter(ax, self.positions, store, self.ids, by)
        ax.set(xlabel=self.labels[0], ylabel=self.labels[1], title=f"{self.title}, by {by}")


def project(
    vectors: NDArray[np.float32], method: str = "pca", seed: int = 0
) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Project vectors to two dimensions.

    Parameters
    ----------
    vectors : ndarray of float32, shape [n, 512]
        Vectors to project.
    method : {"pca", "umap"}
        The first two principal axes, or UMAP with the cosine metric.
    seed : int
        Random seed of UMAP.

    Returns
    -------
    positions : ndarray of float64, shape [n, 2]
        Coordinates.
    labels : tuple of str
        Labels of the two axes; for PCA with the share of the variance.

    Raises
    ------
    QueryError
        If UMAP is not installed.
    """
    if method == "umap":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImportWarning)  # umap warns without TensorFlow
                from umap import UMAP
        except ImportError:
            raise QueryError(
                "UMAP is not installed: pip install 'sleepfm-index[umap]', or use --map pca"
            ) from None
        positions = UMAP(metric="cosine", random_state=seed, n_jobs=1).fit_transform(vectors)
        return np.asarray(positions, np.float64), ("UMAP 1", "UMAP 2")
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    with one_thread():
        spread, directions = np.linalg.eigh(centred.T @ centred)
    first = directions[:, [-1, -2]]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])  # fixes the sign
    share = spread[[-1, -2]] / max(spread.sum(), 1e-12)
    one, two = (f"principal axis {i} ({s:.1%} of variance)" for i, s in enumerate(share, 1))
    return centred @ first, (one, two)


def _scatter(
    ax: Axes, positions: NDArray[np.float64], store: Reader, ids: NDArray[np.int64], by: str
) -> None:
    column = clip_columns(store, ids, [by])[by]
    x, y = positions.T
    if column.type in ("float", "double"):
        points = ax.scatter(x, y, c=numbers(column), s=6, cmap="cividis", linewidths=0)
        ax.figure.colorbar(points, ax=ax, label=by)
        return
    code_of, names = codes(column)
    if len(names) > 20:
        ax.scatter(x, y, c=code_of, s=6, cmap="turbo", linewidths=0)
        ax.annotate(f"{len(names)} values of {by}", (0.02, 0.02), xycoords="axes fraction")
        return
    order = sorted(range(len(names)), key=lambda code: (_legend_rank(str(names[code])), code))
    for code in order:
        chosen = code_of == code
        colour = class_colour(str(names[code]) if by == "stage" else "", code)
        ax.scatter(x[chosen], y[chosen], s=6, color=colour, label=str(names[code]), linewidths=0)
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        markerscale=2.5,
        fontsize="small",
        handletextpad=0.1,
    )


def _legend_rank(name: str) -> int:
    """Rank of a category in the legend: stages first, from wake to REM."""
    return list(STAGE_COLOURS).index(name) if name in STAGE_COLOURS else len(STAGE_COLOURS)
