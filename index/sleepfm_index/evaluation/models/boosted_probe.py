"""A boosted probe: scikit-learn's histogram gradient boosting, stored as arrays of trees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sleepfm_index.evaluation.models.recipe import Recipe

ITERATIONS: Final = 100
LEAVES: Final = 15
BINS: Final = 64
"""Bins per dimension; with 512 dimensions, 255 bins only take more time."""
_NODES: Final = ("feature", "threshold", "left", "right", "value")


@dataclass(frozen=True)
class BoostedProbe:
    """A fitted sum of trees per class (one for two classes or a regression).

    The nodes of all trees are concatenated. An inner node sends ``x[feature] <= threshold`` to
    ``left`` and the rest to ``right``; a leaf is its own child.

    Parameters
    ----------
    classes : tuple of str
        Names of the classes; empty for a regression.
    learned : ndarray of int64, shape [k]
        Codes of the classes with training clips, ascending; empty for a regression. Other classes
        have probability 0.
    roots : ndarray of int64, shape [iterations, outputs]
        First node of every tree.
    baseline : ndarray of float64, shape [outputs]
        Constant to which the trees are added.
    feature, left, right : ndarray of int64, shape [nodes]
        Dimension of the vector and children of each node.
    threshold, value : ndarray of float64, shape [nodes]
        Threshold and value of each node.
    width : int
        Number of dimensions of the vectors.
    about : dict
        Training record; JSON values.
    """

    kind: ClassVar[str] = "boosting"
    converged: ClassVar[bool] = True  # a set number of iterations

    classes: tuple[str, ...]
    learned: NDArray[np.int64]
    roots: NDArray[np.int64]
    baseline: NDArray[np.float64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    width: int
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, x: NDArray[np.float32], y: NDArray[Any], classes: tuple[str, ...], recipe: Recipe
    ) -> Self:
        """Fit 100 rounds of trees of 15 leaves, with balanced classes and L2 penalty ``1 / c``.

        There is no early stopping, because scikit-learn would validate on the same subjects.

        Parameters
        ----------
        x : ndarray of float32, shape [n, d]
            Vectors; may be overwritten.
        y : ndarray of int64 or float64, shape [n]
            Class codes, or the numbers of a regression.
        classes : tuple of str
            Names of the classes; empty for a regression.
        recipe : Recipe
            Settings of the probe.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        settings: dict[str, Any] = {
            "max_iter": ITERATIONS,
            "max_leaf_nodes": LEAVES,
            "max_bins": BINS,
            "l2_regularization": 1 / (1.0 if recipe.c is None else recipe.c),
            "early_stopping": False,
            "random_state": recipe.seed,
        }
        # on a busy machine, OpenMP threads that wait for each other take minutes instead of seconds
        with threadpool_limits(1):
            if classes:
                model = HistGradientBoostingClassifier(class_weight="balanced", **settings)
            else:
                model = HistGradientBoostingRegressor(**settings)
            model.fit(x, y)
        learned = model.classes_.astype(np.int64) if classes else np.empty(0, np.int64)
        # the trees have no public API; test_boosted_probe.py compares predictions
        trees = [[tree.nodes for tree in round_] for round_ in model._predictors]
        sizes = [len(nodes) for round_ in trees for nodes in round_]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        nodes = np.concatenate([nodes for round_ in trees for nodes in round_])
        offset, node_numbers = np.repeat(starts, sizes), np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool)
        return cls(
            classes,
            learned,
            starts.reshape(len(trees), -1),
            np.ravel(model._baseline_prediction).astype(np.float64),
            np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
            nodes["num_threshold"].astype(np.float64),
            np.where(leaf, node_numbers, nodes["left"] + offset).astype(np.int64),
            np.where(leaf, node_numbers, nodes["right"] + offset).astype(np.int64),
            nodes["value"].astype(np.float64),
            x.shape[1],
        )

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities, float64 [n, classes], or numbers, float64 [n].

        Parameters
        ----------
        x : ndarray of float32, shape [n, d]
            Vectors, one row per clip.
        """
        scores = np.tile(self.baseline, (len(x), 1))
        rows = np.arange(len(x))
        for round_ in self.roots:
            for output, root in enumerate(round_):
                node = np.full(len(x), root)
                while True:
                    low = x[rows, self.feature[node]] <= self.threshold[node]
                    below = np.where(low, self.left[node], self.right[node])
                    if np.array_equal(below, node):
                        break
                    node = below
                scores[:, output] += self.value[node]
        if not self.classes:
            return scores[:, 0]
        if len(self.learned) == 2:
            scores = np.column_stack([np.zeros(len(x)), scores[:, 0]])
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = np.zeros((len(x), len(self.classes)))
        shares[:, self.learned] = scores / scores.sum(axis=1, keepdims=True)
        return shares

    def with_about(self, about: Mapping[str, Any]) -> Self:
        """Return the same probe with another training record.

        Parameters
        ----------
        about : mapping of str to object
            Training record; JSON values.
        """
        return replace(self, about=about)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays required for prediction, by name."""
        arrays = {name: getattr(self, name) for name in ("learned", "roots", "baseline", *_NODES)}
        return arrays | {"width": np.array([self.width])}

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, NDArray[Any]],
        classes: tuple[str, ...],
        converged: bool,
        about: Mapping[str, Any],
    ) -> Self:
        """Rebuild a probe from its arrays.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            The arrays of the probe, by name.
        classes : tuple of str
            Names of the classes; empty for a regression.
        converged : bool
            Whether the fit converged.
        about : mapping of str to object
            Training record; JSON values.

        Raises
        ------
        KeyError, ValueError
            If an array is missing, or shapes or contents are not consistent. Every child must come
            after its parent or be the node itself, so that there are no cycles.
        """
        probe = cls(
            classes,
            **{name: tensors[name] for name in ("learned", "roots", "baseline", *_NODES)},
            width=int(tensors["width"][0]),
            about=about,
        )
        nodes, node_numbers = len(probe.value), np.arange(len(probe.value))
        outputs = len(probe.baseline)
        expected = {0: 1, 2: 1}.get(len(probe.learned), len(probe.learned))
        consistent = (
            probe.roots.ndim == 2
            and probe.roots.shape[1] == outputs == expected
            and bool(classes) == bool(len(probe.learned))
            and all(getattr(probe, name).shape == (nodes,) for name in _NODES)
            and all(
                _within(getattr(probe, name), limit)
                for name, limit in (
                    *(("roots", nodes), ("left", nodes), ("right", nodes)),
                    *(("feature", probe.width), ("learned", len(classes))),
                )
            )
            and bool(np.all(probe.left >= node_numbers) and np.all(probe.right >= node_numbers))
            and bool(np.all((probe.left == node_numbers) == (probe.right == node_numbers)))
        )
        if not consistent:
            raise ValueError("its trees do not agree")
        return probe


def _within(values: NDArray[Any], limit: int) -> bool:
    """Whether values are integers from 0 to below a limit."""
    return values.dtype.kind == "i" and bool(np.all((values >= 0) & (values < limit)))
