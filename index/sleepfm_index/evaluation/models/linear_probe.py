"""A linear probe: logistic or ridge regression on frozen vectors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.runtime.threads import one_thread

_TENSORS: Final = ("mean", "scale", "coefficients", "intercept")
_ITERATIONS: Final = 1000
_WORTH_THREADS: Final = 1 << 25


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe: ``scores = ((x - mean) / scale) @ coefficients + intercept``.

    Parameters
    ----------
    classes : tuple of str
        Names of the classes; empty for a regression.
    mean, scale : ndarray of float64, shape [d]
        Standardisation, estimated on the training clips.
    coefficients : ndarray of float64, shape [d, classes], or [d, 1] for a regression
        Coefficients of the standardised vectors.
    intercept : ndarray of float64, shape [classes] or [1]
        Intercepts; -inf for a class without training clips, whose probability is 0.
    converged : bool
        Whether the fit ended before its limit of iterations.
    about : dict
        Training record: label, rule, features, weights, contract; JSON values.
    """

    kind: ClassVar[str] = "linear"

    classes: tuple[str, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]
    converged: bool
    about: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities, float64 [n, classes], or numbers, float64 [n].

        Parameters
        ----------
        x : ndarray of float32, shape [n, d]
            Vectors, one row per clip.
        """
        # the standardisation is folded into the coefficients, so x is not copied
        slope = self.coefficients / self.scale[:, None]
        scores = x @ slope.astype(np.float32) + (self.intercept - self.mean @ slope)
        if not self.classes:
            return np.asarray(scores[:, 0], np.float64)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(scores / scores.sum(axis=1, keepdims=True), np.float64)

    @classmethod
    def fit(
        cls, x: NDArray[np.float32], y: NDArray[Any], classes: tuple[str, ...], recipe: Recipe
    ) -> LinearProbe:
        """Fit a logistic regression, or without classes a ridge regression.

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
        c = 1.0 if recipe.c is None else recipe.c
        if not classes:
            return fit_number(x, y.astype(np.float64), c=c, standardise=recipe.standardise)
        return fit_classes(
            x,
            y.astype(np.int64),
            classes,
            c=c,
            standardise=recipe.standardise,
            iterations=recipe.iterations,
        )

    def with_about(self, about: Mapping[str, Any]) -> LinearProbe:
        """Return the same probe with another training record.

        Parameters
        ----------
        about : mapping of str to object
            Training record; JSON values.
        """
        return replace(self, about=about)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays required for prediction, by name."""
        return {name: getattr(self, name) for name in _TENSORS}

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, NDArray[Any]],
        classes: tuple[str, ...],
        converged: bool,
        about: Mapping[str, Any],
    ) -> LinearProbe:
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
            If an array is missing, or the shapes are not consistent.
        """
        probe = cls(classes, **{n: tensors[n] for n in _TENSORS}, converged=converged, about=about)
        width, outputs = len(probe.mean), max(1, len(classes))
        shapes = ((width,), (width,), (width, outputs), (outputs,))
        if tuple(tensors[name].shape for name in _TENSORS) != shapes:
            raise ValueError("the shapes of its arrays do not agree")
        return probe


def fit_classes(
    x: NDArray[np.float32],
    truth: NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    c: float = 1.0,
    standardise: bool = True,
    iterations: int | None = None,
) -> LinearProbe:
    """Fit a multinomial logistic regression with balanced classes by L-BFGS.

    Parameters
    ----------
    x : ndarray of float32, shape [n, d]
        Vectors, standardised in place.
    truth : ndarray of int64, shape [n]
        Class codes, of at least two classes.
    classes : tuple of str
        Names of the classes.
    c : float
        Inverse strength of the L2 penalty, as in ``sklearn.linear_model.LogisticRegression``.
    standardise : bool
        Whether ``x`` is standardised; otherwise it is used as given.
    iterations : int, optional
        Maximum number of iterations; by default 1,000.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = _standardise(x) if standardise else _identity(x)
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=iterations or _ITERATIONS)
    with (
        warnings.catch_warnings(record=True) as caught,
        one_thread(unless=x.size >= _WORTH_THREADS),
    ):
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(x, truth)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    learned = model.classes_.astype(np.int64)
    coefficients = np.zeros((x.shape[1], len(classes)))
    intercept = np.full(len(classes), -np.inf)
    if len(learned) == 2:
        # with two classes, scikit-learn has coefficients of the second only
        coefficients[:, learned[1]] = model.coef_[0]
        intercept[learned] = (0.0, model.intercept_[0])
    else:
        coefficients[:, learned] = model.coef_.T
        intercept[learned] = model.intercept_
    return LinearProbe(classes, mean, scale, coefficients, intercept, converged)


def fit_number(
    x: NDArray[np.float32],
    truth: NDArray[np.float64],
    *,
    c: float = 1.0,
    standardise: bool = True,
) -> LinearProbe:
    """Fit a ridge regression with penalty 1 / ``c``; ``x`` [n, d] is standardised in place.

    Parameters
    ----------
    x : ndarray of float32, shape [n, d]
        Vectors, standardised in place.
    truth : ndarray of float64, shape [n]
        Numbers to learn.
    c : float
        Inverse strength of the L2 penalty.
    standardise : bool
        Whether ``x`` is standardised; otherwise it is used as given.
    """
    from sklearn.linear_model import Ridge

    mean, scale = _standardise(x) if standardise else _identity(x)
    centre, spread = float(truth.mean()), float(truth.std()) or 1.0
    with one_thread(unless=x.size >= _WORTH_THREADS):
        model = Ridge(alpha=1 / c).fit(x, ((truth - centre) / spread).astype(np.float32))
    slope = np.asarray(model.coef_, np.float64).reshape(-1, 1) * spread
    intercept = np.array([float(np.ravel(model.intercept_)[0]) * spread + centre])
    return LinearProbe((), mean, scale, slope, intercept, True)


def _identity(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.zeros(x.shape[1]), np.ones(x.shape[1])


def _standardise(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = x.mean(axis=0, dtype=np.float64)
    x -= mean.astype(np.float32)
    scale = np.sqrt(np.einsum("ij,ij->j", x, x, dtype=np.float64) / max(len(x), 1))
    scale[scale < 1e-12] = 1.0
    x /= scale.astype(np.float32)
    return mean, scale
