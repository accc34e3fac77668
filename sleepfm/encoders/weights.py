"""Weights: the encoders' tensors, with everything needed to use them correctly.

One safetensors file holds the encoders of all modalities (tensors named ``<modality>.<key>``). Its
only metadata entry, ``sleepfm``, is JSON: format version, name, whether the weights were trained,
temperature, contract and training record. Weights may also describe their training set, in tensors
named ``training_distribution.<modality>.<part>`` (:mod:`sleepfm.encoders.training_distribution`).
The SHA-256 of the file is the weights' identity. Weights that are only in memory are identified by
the bytes that :meth:`Weights.save` would write.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from sleepfm.atomic_write import write_bytes
from sleepfm.contract import Contract
from sleepfm.encoders.layout import tensor_shapes
from sleepfm.encoders.training_distribution import TrainingDistribution, counts_of
from sleepfm.errors import WeightsError

FORMAT_VERSION: Final = 2
"""With a training distribution; files without one have version 1, which earlier programs read."""
_METADATA_KEY: Final = "sleepfm"
_DISTRIBUTION: Final = "training_distribution"
_LARGEST: Final = 1 << 30
"""Bytes of a file; the encoders of all modalities have less than a tenth."""
_MALFORMED: Final = (
    AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError,
)  # fmt: skip

_ENOUGH_JITTER_S: Final = 0.5
"""Jitter with which the times of single heart beats no longer match."""

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class WeightsInfo:
    """The header of a weights file.

    Parameters
    ----------
    name : str
        Display name.
    trained : bool
        False for a random initialisation, whose vectors mean nothing.
    sha256 : str
        Identity: SHA-256 of the file.
    contract : Contract
        Requirements of the encoders on their input.
    record : dict
        Training record: objective, data, epochs, metrics; JSON values.
    temperature : float
        The learned parameter t; similarities were multiplied by exp(t) in training.
    modalities : tuple of str
        Modalities with an encoder in the file.
    distribution : dict of str to int
        Counts of the training distribution; empty if the file has none.
    """

    name: str
    trained: bool
    sha256: str
    contract: Contract
    record: dict[str, Any]
    temperature: float
    modalities: tuple[str, ...]
    distribution: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """Tensors of the encoders, with the metadata of :class:`WeightsInfo`.

    Parameters
    ----------
    name, trained, contract, record, temperature
        As in :class:`WeightsInfo`.
    tensors : mapping of str to mapping of str to ndarray
        Per modality a state dict with the keys and shapes of the published encoder.
    sha256 : str
        Identity; computed if it is empty.
    distribution : TrainingDistribution, optional
        What the training set looks like.
    """

    name: str
    trained: bool
    contract: Contract
    record: dict[str, Any]
    temperature: float
    tensors: Mapping[str, Tensors] = field(repr=False)
    sha256: str = ""
    distribution: TrainingDistribution | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.sha256:
            object.__setattr__(self, "sha256", hashlib.sha256(self.to_bytes()).hexdigest())

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities with an encoder, in order."""
        return tuple(m for m in self.contract.modalities if m in self.tensors)

    @property
    def simultaneous(self) -> bool:
        """Whether modalities that were cut at the same moment have been matched in training.

        Then clips can be matched by the times of single heart beats (docs/training.md). True too of
        weights that started from such weights, and with a jitter of less than half a second.
        """
        jitter_s = self.record.get("recipe", {}).get("jitter_s", 0.0)
        contrasted = self.record.get("objective") != "physiology"
        started_so = self.record.get("started_from", {}).get("simultaneous", False)
        return self.trained and (started_so or (contrasted and jitter_s < _ENOUGH_JITTER_S))

    @property
    def info(self) -> WeightsInfo:
        """Weights without the tensors."""
        return WeightsInfo(
            self.name,
            self.trained,
            self.sha256,
            self.contract,
            self.record,
            self.temperature,
            self.modalities,
            {} if self.distribution is None else self.distribution.facts,
        )

    def to_bytes(self) -> bytes:
        """Serialise the weights; equal weights give equal bytes.

        Returns
        -------
        bytes
            Content of the safetensors file.
        """
        from safetensors.numpy import save

        header: dict[str, Any] = {
            "format_version": 1,
            "name": self.name,
            "trained": self.trained,
            "temperature": self.temperature,
            "contract": self.contract.to_json(),
            "record": self.record,
        }
        flat = {
            f"{m}.{k}": np.asarray(v, order="C")
            for m in self.modalities
            for k, v in self.tensors[m].items()
        }
        if self.distribution is not None:
            header |= {"format_version": FORMAT_VERSION, _DISTRIBUTION: self.distribution.facts}
            flat |= {f"{_DISTRIBUTION}.{k}": v for k, v in self.distribution.tensors().items()}
        text = json.dumps(header, sort_keys=True, separators=(",", ":"))
        content: bytes = save(flat, metadata={_METADATA_KEY: text})
        return content

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the weights to one safetensors file, atomically.

        Parameters
        ----------
        path : path
            The file to write; an existing one is replaced.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        return write_bytes(Path(path), self.to_bytes())

    def half(self) -> Weights:
        """Convert matrices and kernels to float16, which halves the size of the file.

        Biases and the vectors of batch norms stay float32, because variances can exceed the range
        of float16.

        Returns
        -------
        Weights
            A copy with its own identity.
        """
        halves = {
            m: {k: v.astype(np.float16) if v.ndim > 1 else v for k, v in tensors.items()}
            for m, tensors in self.tensors.items()
        }
        return replace(self, tensors=halves, sha256="")


def read_info(path: str | os.PathLike[str]) -> WeightsInfo:
    """Read the header and the hash of a weights file, without torch and without its tensors.

    Parameters
    ----------
    path : path
        A safetensors file of this project.

    Returns
    -------
    WeightsInfo

    Raises
    ------
    WeightsError
        If the file is not a weights file of a version that this program reads.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _LARGEST:
            raise WeightsError(
                f"{file.name} is larger than {_LARGEST >> 30} GB; it holds no weights"
            )
        with safe_open(file, framework="numpy") as tensors:
            names = list(tensors.keys())
            header = (tensors.metadata() or {}).get(_METADATA_KEY)
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{file.name} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise WeightsError(f"{file.name} is not a safetensors file") from error
    if header is None:
        raise WeightsError(
            f"{file.name} is a safetensors file, but does not contain weights of this project"
        )
    return _parse_info(file.name, header, names, sha256)


def _parse_info(file: str, header: str, names: list[str], sha256: str) -> WeightsInfo:
    try:
        parsed = json.loads(header)
        version = parsed["format_version"]
        if version not in (1, FORMAT_VERSION):
            raise WeightsError(
                f"{file} has format version {version}; this program reads versions 1 to "
                f"{FORMAT_VERSION}: install a newer sleepfm-index"
            )
        contract = Contract.from_json(parsed["contract"])
        in_file = {n.partition(".")[0] for n in names} - {_DISTRIBUTION}
        unknown = in_file.difference(contract.modalities)
        if unknown:
            raise ValueError(f"an encoder for {min(unknown)}, which its contract does not have")
        return WeightsInfo(
            name=str(parsed["name"]),
            trained=bool(parsed["trained"]),
            sha256=sha256,
            contract=contract,
            record=dict(parsed["record"]),
            temperature=float(parsed["temperature"]),
            modalities=tuple(m for m in contract.modalities if m in in_file),
            distribution=counts_of(parsed[_DISTRIBUTION]) if _DISTRIBUTION in parsed else {},
        )
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise WeightsError(f"{file} has a damaged header ({error!r}); fetch it again") from error


def read_weights(path: Path) -> Weights:
    """Read a weights file.

    Parameters
    ----------
    path : Path
        A safetensors file of this project.

    Returns
    -------
    Weights

    Raises
    ------
    WeightsError
        If it is truncated or damaged, or does not match the encoders.
    """
    from safetensors.numpy import load

    info = read_info(path)
    try:
        content = path.read_bytes()
        flat = load(content)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path.name} is truncated or damaged; fetch it again") from error
    tensors: dict[str, dict[str, NDArray[Any]]] = {m: {} for m in info.modalities}
    described: dict[str, NDArray[Any]] = {}
    for name, values in flat.items():
        modality, _, key = name.partition(".")
        (described if modality == _DISTRIBUTION else tensors[modality])[key] = values
    check_tensors(path.name, info.contract, tensors)
    distribution = None
    if info.distribution or described:
        try:
            counts = counts_of(info.distribution)
            distribution = TrainingDistribution.from_tensors(info.contract, counts, described)
        except (ValueError, WeightsError) as error:
            raise WeightsError(f"{path.name}: {error}; fetch it again") from error
    return Weights(
        info.name,
        info.trained,
        info.contract,
        info.record,
        info.temperature,
        tensors,
        info.sha256,
        distribution,
    )


def check_tensors(file: str, contract: Contract, tensors: Mapping[str, Tensors]) -> None:
    """Check that tensors are exactly those of the encoders, and finite.

    Parameters
    ----------
    file : str
        Name of the file, for messages.
    contract : Contract
        Sets the number of input channels.
    tensors : mapping of str to mapping of str to ndarray
        A state dict for each modality.

    Raises
    ------
    WeightsError
        If a tensor does not match; the message names the first one.
    """
    if not tensors:
        raise WeightsError(f"{file} contains no encoder")
    for modality, state in tensors.items():
        slots = contract.slots_of(modality)
        expected = tensor_shapes(len(slots))
        stem = state.get("stage1.weight")
        if stem is not None and stem.ndim == 3 and stem.shape[1] != len(slots):
            raise WeightsError(
                f"{file}: the {modality} encoder takes {stem.shape[1]} channels, but its contract "
                f"has {len(slots)} ({', '.join(slots)}); these weights are for another montage"
            )
        different = sorted(expected.keys() ^ state.keys())
        if different:
            problem = "lacks" if different[0] in expected else "has the unknown"
            raise WeightsError(
                f"{file}: the {modality} encoder {problem} tensor {different[0]} ({len(different)} "
                "differ); these are weights of another network"
            )
        for key, shape in expected.items():
            if state[key].shape != shape:
                raise WeightsError(
                    f"{file}: {modality}.{key} has shape {state[key].shape}, not {shape}; "
                    "these are weights of another network"
                )
            if not np.isfinite(state[key]).all():
                raise WeightsError(f"{file}: {modality}.{key} contains NaN or infinity")
