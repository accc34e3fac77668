"""Interface, registry and file format of probes.

A new kind is one module with a class that implements :class:`Probe`, and one line of
:data:`PROBES`. A saved probe is a safetensors file: arrays, and JSON in the header. Unlike
unpickling, loading it runs no code from the file, and it does not need scikit-learn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm.atomic_write import write_file
from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.evaluation.models.boosted_probe import BoostedProbe
from sleepfm_index.evaluation.models.linear_probe import LinearProbe
from sleepfm_index.evaluation.models.recipe import Recipe

FORMAT_VERSION: Final = 1
MAX_CLASSES: Final = 4096
"""Of a saved probe: each is a column of every prediction."""
_KEY: Final = "sleepfm_probe"


class Probe(Protocol):
    """A model on frozen vectors that is fitted, predicts, and is saved as arrays.

    Vectors are float32 [n, d], concatenated for several modalities. Instances are immutable.
    """

    kind: ClassVar[str]
    """Name of the kind in :data:`PROBES` and in files."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty for a regression."""

    @property
    def converged(self) -> bool:
        """Whether the fit ended before its limit of iterations."""

    @property
    def about(self) -> Mapping[str, Any]:
        """Training record: label, rule, features, weights, contract; JSON values."""

    @classmethod
    def fit(
        cls, x: NDArray[np.float32], y: NDArray[Any], classes: tuple[str, ...], recipe: Recipe
    ) -> Self:
        """Fit a probe to vectors and their labels.

        Parameters
        ----------
        x : ndarray of float32, shape [n, d]
            Vectors; may be overwritten.
        y : ndarray of int64 (codes of ``classes``) or float64, shape [n]
            Labels, of at least two classes; a class without clips is predicted with probability 0.
        classes : tuple of str
            Names of the classes; empty for a regression.
        recipe : Recipe
            Settings of the probe.
        """

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities, float64 [n, classes], or numbers, float64 [n].

        Parameters
        ----------
        x : ndarray of float32, shape [n, d]
            Vectors, one row per clip.
        """

    def with_about(self, about: Mapping[str, Any]) -> Self:
        """Return the same probe with another training record.

        Parameters
        ----------
        about : mapping of str to object
            Training record; JSON values.
        """

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays required for prediction, by name."""

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
            If an array is missing, or shapes or contents are not consistent.
        """


PROBES: Final[Mapping[str, type[Probe]]] = {
    probe.kind: probe for probe in (LinearProbe, BoostedProbe)
}
"""Kinds of probes by name."""


def probe_kind(name: str) -> type[Probe]:
    """Return a kind of probe by name.

    Parameters
    ----------
    name : str
        Name of the kind, as in a recipe.

    Raises
    ------
    QueryError
        If there is no kind of this name.
    """
    if name not in PROBES:
        raise QueryError(f"no model {name!r}; choose from {', '.join(PROBES)}")
    return PROBES[name]


def save_probe(probe: Probe, path: str | Path) -> Path:
    """Write a probe as a safetensors file with a JSON header.

    Parameters
    ----------
    probe : Probe
        The probe.
    path : path
        The file to write.

    Raises
    ------
    QueryError
        If the probe has more classes than a saved probe may have.
    """
    from safetensors.numpy import save

    if len(probe.classes) > MAX_CLASSES:
        raise QueryError(f"a probe of at most {MAX_CLASSES:,} classes can be saved")

    header = {
        "format_version": FORMAT_VERSION,
        "kind": probe.kind,
        "classes": list(probe.classes),
        "converged": probe.converged,
        "about": dict(probe.about),
    }
    tensors = {name: np.ascontiguousarray(array) for name, array in probe.tensors().items()}
    content = save(tensors, {_KEY: json.dumps(header, sort_keys=True)})
    path = Path(path)

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_file(path, write)
    return path


def load_probe(path: str | Path) -> Probe:
    """Read a saved probe of any kind.

    Parameters
    ----------
    path : path
        The file to read.

    Raises
    ------
    FormatError
        If the file is missing, damaged, or of an unknown format or kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with safe_open(str(path), "numpy") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {header['format_version']}")
        # files of the first release name no kind
        kind = str(header.get("kind", LinearProbe.kind))
        if kind not in PROBES:
            raise ValueError(f"it is a probe of kind {kind!r}, which this version does not know")
        classes = tuple(map(str, header["classes"]))
        if len(classes) > MAX_CLASSES:
            raise ValueError(f"it has {len(classes):,} classes, more than {MAX_CLASSES:,}")
        about = dict(header["about"])
        return PROBES[kind].from_tensors(tensors, classes, bool(header["converged"]), about)
    except OSError as error:
        reason = (error.strerror or "no such file").lower()
        raise FormatError(f"{path.name} cannot be read: {reason}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{path.name} is not a saved probe: {error}") from error
