"""Encoders of other packages, registered by entry point, for use in place of SleepFM's own.

A package registers a callable in the group ``sleepfm.encoders`` of its entry points::

    [project.entry-points."sleepfm.encoders"]
    theirs = "their_package:load"

and ``sleepfm-index build --weights theirs`` runs it. The callable returns an :class:`Encoder`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sleepfm.contract import Contract
from sleepfm.errors import WeightsError
from sleepfm.modality import EMBEDDING_DIM

GROUP: Final = "sleepfm.encoders"
"""The group of entry points."""

_BATCH: Final = 64


@runtime_checkable
class Encoder(Protocol):
    """Interface of encoders of other packages.

    Attributes
    ----------
    contract : Contract
        Contract by which clips are prepared: modalities and their slots, sampling rate, scaling.
    dimensions : int
        Length of its vectors, 1 to 512; a store appends zeros, which do not affect cosines.
    identity : str
        Identifier of everything that determines the vectors, e.g. the SHA-256 of the weights file;
        a store refuses vectors of another identity.
    """

    contract: Contract
    dimensions: int
    identity: str

    def encode(self, modality: str, clips: NDArray[np.float32]) -> NDArray[np.floating]:
        """Encode clips; each vector depends on its own clip alone.

        Parameters
        ----------
        modality : str
            A modality of the contract.
        clips : ndarray of float32, shape [n, slots, samples]
            Prepared as the contract requires; a slot without a channel is zero.

        Returns
        -------
        ndarray of floating, shape [n, dimensions]
            Finite vectors; they are scaled to unit length afterwards.
        """


class Load(Protocol):
    """Factory named by an entry point, which returns a ready encoder."""

    def __call__(self, *, device: str, threads: int) -> Encoder:
        """Load the encoder.

        Parameters
        ----------
        device : str
            ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        threads : int
            Number of threads that it may use on the CPU.

        Returns
        -------
        Encoder
            The encoder, ready to run.
        """


@dataclass(frozen=True)
class ExternalWeights:
    """Description of another package's encoder without its network; plain values for pickling.

    It replaces :class:`sleepfm.encoders.weights.Weights` where clips are encoded, in a build and in
    a query by file. It has no tensors for training or conversion.

    Parameters
    ----------
    name : str
        Name of the entry point.
    sha256 : str
        Hash of the name and the encoder's ``identity``.
    contract : Contract
        Requirements of the encoder on its input.
    dimensions : int
        Length of its vectors.
    package : str
        Name and version of the distribution that registers it.
    record : mapping of str to object
        Training record; empty, as it is not known.
    trained : bool
        Assumed to be true.
    """

    name: str
    sha256: str
    contract: Contract
    dimensions: int
    package: str
    record: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = True

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities with an encoder, in order."""
        return self.contract.modalities


class ExternalBackend:
    """Backend that runs another package's encoder in batches, and checks its output.

    Parameters
    ----------
    weights : ExternalWeights
        The encoder; refused if its identity has changed.
    device : str
        ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    threads : int
        Number of threads on the CPU.
    batch_size : int, optional
        Clips per batch; 64 by default.

    Raises
    ------
    WeightsError
        If the encoder cannot be loaded, or its identity has changed.
    """

    def __init__(
        self, weights: ExternalWeights, device: str, threads: int, batch_size: int | None = None
    ) -> None:
        loaded, self._encoder = _load(weights.name, device, threads)
        if loaded.sha256 != weights.sha256:
            raise WeightsError(
                f"the encoder {weights.name} of {loaded.package} is not the one that was asked "
                "for: its weights or version changed meanwhile"
            )
        self.name = loaded.package
        self._weights, self._batch = weights, batch_size or _BATCH

    def run(self, modality: str, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode clips.

        Parameters
        ----------
        modality : str
            A modality of the contract.
        clips : ndarray of float32, shape [n, slots, samples]
            Prepared as the contract requires.

        Returns
        -------
        ndarray of float32, shape [n, 512]
            Vectors, padded with zeros to 512 dimensions.

        Raises
        ------
        WeightsError
            If the encoder returns an array of another shape.
        """
        width = self._weights.dimensions
        out = np.zeros((len(clips), EMBEDDING_DIM), np.float32)
        for first in range(0, len(clips), self._batch):
            part = clips[first : first + self._batch]
            vectors = np.asarray(self._encoder.encode(modality, part))
            if vectors.shape != (len(part), width):
                raise WeightsError(
                    f"the encoder {self._weights.name} returned an array of shape "
                    f"{list(vectors.shape)} for {len(part)} {modality} clips; it must be "
                    f"[{len(part)}, {width}]"
                )
            out[first : first + len(part), :width] = vectors
        return out


def external_names() -> tuple[str, ...]:
    """Return the sorted names of registered encoders, without importing them."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def describe(name: str) -> str:
    """Return the package that registers an encoder, without importing it.

    Parameters
    ----------
    name : str
        A name from :func:`external_names`.

    Returns
    -------
    str
        Name and version of the distribution.

    Raises
    ------
    WeightsError
        If no package or more than one registers it.
    """
    return _package(_find(name))


def find_external(name: str) -> ExternalWeights:
    """Load another package's encoder to determine its contract, dimensions and identity.

    Parameters
    ----------
    name : str
        A name from :func:`external_names`.

    Returns
    -------
    ExternalWeights
        Description of the encoder.

    Raises
    ------
    WeightsError
        If no package or more than one registers it, it cannot be loaded, or it does not implement
        :class:`Encoder`.
    """
    return _load(name, "cpu", 1)[0]


def _find(name: str) -> EntryPoint:
    points = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if not points:
        raise WeightsError(f"no installed package registers an encoder named {name}")
    if len(points) > 1:
        owners = ", ".join(sorted(map(_package, points.values())))
        raise WeightsError(
            f"more than one package registers an encoder named {name}: {owners}; uninstall all "
            "but one"
        )
    return next(iter(points.values()))


def _package(point: EntryPoint) -> str:
    distribution = point.dist
    return (
        f"{distribution.name} {distribution.version}" if distribution is not None else point.value
    )


def _load(name: str, device: str, threads: int) -> tuple[ExternalWeights, Encoder]:
    point = _find(name)
    package = _package(point)
    try:
        encoder = point.load()(device=device, threads=threads)
    except Exception as error:  # another package may raise any exception
        raise WeightsError(
            f"the encoder {name} of {package} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(encoder, Encoder):
        lacking = [
            a for a in ("contract", "dimensions", "identity", "encode") if not hasattr(encoder, a)
        ]
        raise WeightsError(
            f"the encoder {name} of {package} lacks {', '.join(lacking)}; docs/encoding.md says "
            "what an encoder must offer"
        )
    if not isinstance(encoder.contract, Contract):
        raise WeightsError(f"the contract of the encoder {name} of {package} is no Contract")
    contract = Contract.from_json(encoder.contract.to_json())  # validated as if read from a file
    width, identity = encoder.dimensions, encoder.identity
    if not isinstance(width, int) or not 1 <= width <= EMBEDDING_DIM:
        raise WeightsError(
            f"the encoder {name} of {package} gives vectors of {width} dimensions, a store holds 1 "
            f"to {EMBEDDING_DIM}; let it reduce them, e.g. by principal components"
        )
    if not isinstance(identity, str) or not identity:
        raise WeightsError(
            f"the encoder {name} of {package} has no identity; give the SHA-256 of its weights"
        )
    sha256 = hashlib.sha256("\n".join((GROUP, name, identity)).encode()).hexdigest()
    return ExternalWeights(name, sha256, contract, width, package), encoder
