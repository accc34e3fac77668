"""A linear probe: logistic or ridge regression on frozen vectors, kept as tensors and JSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.atomic_write import write_file
from sleepfm_index.errors import FormatError
from sleepfm_index.runtime.threads import one_thread

FORMAT_VERSION: Final = 1
_KEY: Final = "sleepfm_probe"
_TENSORS: Final = ("mean", "scale", "coefficients", "intercept")
_ITERATIONS: Final = 1000
_WORTH_THREADS: Final = 1 << 25


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe: ``scores = ((x - mean) / scale) @ coefficients + intercept``.

    Parameters
    ----------
    classes : tuple of str
        Empty for a number.
    mean, scale : ndarray of float64, shape [d]
        Standardisation, measured on what was learned from.
    coefficients : ndarray of float64, shape [d, classes], or [d, 1] for a number
    intercept : ndarray of float64, shape [classes] or [1]
        -inf for a class that was not learned: its probability is 0.
    converged : bool
        Whether the fit ended before its limit of iterations.
    about : dict
        What it was learned from: label, rule, features, weights, contract; JSON values.
    """

    classes: tuple[str, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]
    converged: bool
    about: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities, float64 [n, classes], or numbers, float64 [n]."""
        # the standardisation is folded into the coefficients, so x is not copied
        slope = self.coefficients / self.scale[:, None]
        scores = x @ slope.astype(np.float32) + (self.intercept - self.mean @ slope)
        if not self.classes:
            return np.asarray(scores[:, 0], np.float64)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(scores / scores.sum(axis=1, keepdims=True), np.float64)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file; everything but the tensors is JSON in its header."""
        from safetensors.numpy import save

        plain = {
            "format_version": FORMAT_VERSION,
            "classes": list(self.classes),
            "converged": self.converged,
            "about": dict(self.about),
        }
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        content = save(tensors, {_KEY: json.dumps(plain, sort_keys=True)})
        path = Path(path)

        def write(aside: Path) -> None:
            aside.write_bytes(content)

        write_file(path, write)
        return path

    @classmethod
    def load(cls, path: str | Path) -> LinearProbe:
        """Read a saved probe.

        Raises
        ------
        FormatError
            If it is missing, damaged, or of a format that this version does not know.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        try:
            with safe_open(str(path), "numpy") as file:
                plain = json.loads((file.metadata() or {})[_KEY])
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
            if plain["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {plain['format_version']}")
            made = cls(
                classes=tuple(map(str, plain["classes"])),
                converged=bool(plain["converged"]),
                about=dict(plain["about"]),
                **tensors,
            )
            width, outputs = len(made.mean), max(1, len(made.classes))
            if made.coefficients.shape != (width, outputs) or made.scale.shape != (width,):
                raise ValueError("the shapes of its tensors do not agree")
            if made.intercept.shape != (outputs,):
                raise ValueError("the shapes of its tensors do not agree")
        except OSError as error:
            reason = (error.strerror or "no such file").lower()
            raise FormatError(f"{path.name} cannot be read: {reason}") from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path.name} is not a saved probe: {error}") from error
        return made


def fit_classes(
    x: NDArray[np.float32], truth: NDArray[np.int64], classes: tuple[str, ...], *, c: float = 1.0
) -> LinearProbe:
    """Fit a multinomial logistic regression by L-BFGS, classes weighted to balance.

    Parameters
    ----------
    x : ndarray of float32, shape [n, d]
        Standardised in place.
    truth : ndarray of int64, shape [n]
        Codes of ``classes``, at least two of them present.
    c : float
        Inverse strength of the L2 penalty, as in ``sklearn.linear_model.LogisticRegression``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = _standardise(x)
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=_ITERATIONS)
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
        # sklearn keeps the second of two classes only, against the first at zero
        coefficients[:, learned[1]] = model.coef_[0]
        intercept[learned] = (0.0, model.intercept_[0])
    else:
        coefficients[:, learned] = model.coef_.T
        intercept[learned] = model.intercept_
    return LinearProbe(classes, mean, scale, coefficients, intercept, converged)


def fit_number(
    x: NDArray[np.float32], truth: NDArray[np.float64], *, c: float = 1.0
) -> LinearProbe:
    """Fit a ridge regression with penalty 1 / ``c``; ``x`` [n, d] is standardised in place."""
    from sklearn.linear_model import Ridge

    mean, scale = _standardise(x)
    centre, spread = float(truth.mean()), float(truth.std()) or 1.0
    with one_thread(unless=x.size >= _WORTH_THREADS):
        model = Ridge(alpha=1 / c).fit(x, ((truth - centre) / spread).astype(np.float32))
    slope = np.asarray(model.coef_, np.float64).reshape(-1, 1) * spread
    intercept = np.array([float(np.ravel(model.intercept_)[0]) * spread + centre])
    return LinearProbe((), mean, scale, slope, intercept, True)


def _standardise(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = x.mean(axis=0, dtype=np.float64)
    x -= mean.astype(np.float32)
    scale = np.sqrt(np.einsum("ij,ij->j", x, x, dtype=np.float64) / max(len(x), 1))
    scale[scale < 1e-12] = 1.0
    x /= scale.astype(np.float32)
    return mean, scale
