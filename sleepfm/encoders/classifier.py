"""A classifier: the encoder's network with a class head, stored in one file.

The file is in the safetensors format and holds the network's tensors. Its only metadata entry,
``sleepfm-classifier``, is JSON: format version, name, classes, modalities whose channels are
stacked, contract and training record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sleepfm.atomic_write import write_bytes
from sleepfm.contract import Contract
from sleepfm.encoders.effnet import EffNet, fold_batch_norms
from sleepfm.errors import WeightsError

FORMAT_VERSION: Final = 1
_METADATA_KEY: Final = "sleepfm-classifier"
_BATCH: Final = 32


@dataclass(frozen=True)
class Classifier:
    """A trained classification network.

    Parameters
    ----------
    name : str
        Display name.
    classes : tuple of str
        Class names, in the order of the outputs.
    modalities : tuple of str
        Input modalities; their channels are stacked in this order.
    contract : Contract
        Requirements on the input.
    record : dict
        Training record; JSON values.
    tensors : mapping of str to ndarray
        State dict of the network.
    """

    name: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    contract: Contract
    record: dict[str, Any]
    tensors: Mapping[str, NDArray[Any]] = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the classifier to one safetensors file, atomically.

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
        from safetensors.numpy import save

        header = {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "classes": list(self.classes),
            "modalities": [str(m) for m in self.modalities],
            "contract": self.contract.to_json(),
            "record": self.record,
        }
        text = json.dumps(header, sort_keys=True, separators=(",", ":"))
        content = save(dict(self.tensors), metadata={_METADATA_KEY: text})
        return write_bytes(Path(path), content)

    def probabilities(self, clips: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Classify clips, on the CPU.

        Parameters
        ----------
        clips : mapping of str to ndarray of float32, shape [n, slots, samples]
            Prepared as the contract requires; all zero where a clip lacks the modality.

        Returns
        -------
        ndarray of float32, shape [n, classes]
            Each row sums to 1.

        Raises
        ------
        WeightsError
            If a modality is missing, or its clips do not match the contract or are not finite.
        """
        for modality in self.modalities:
            if modality not in clips:
                raise WeightsError(f"{self.name} needs {modality} clips")
            expected = (len(self.contract.slots_of(modality)), self.contract.clip_samples)
            if clips[modality].shape[1:] != expected or not np.isfinite(clips[modality]).all():
                raise WeightsError(
                    f"{modality} clips must be finite and of shape [n, {expected[0]}, "
                    f"{expected[1]}], got {list(clips[modality].shape)}"
                )
        stacked = np.concatenate([clips[m] for m in self.modalities], axis=1)
        network = fold_batch_norms(self._network())
        with torch.inference_mode():
            inputs = torch.from_numpy(stacked)
            parts = [network(part).softmax(1) for part in torch.split(inputs, _BATCH)]
        out: NDArray[np.float32] = torch.cat(parts).numpy()
        return out

    def _network(self) -> EffNet:
        channels = sum(len(self.contract.slots_of(m)) for m in self.modalities)
        network = EffNet(channels, outputs=len(self.classes))
        state = {k: torch.from_numpy(np.array(v)) for k, v in self.tensors.items()}
        network.load_state_dict(state)
        return network.eval()


def load_classifier(path: str | os.PathLike[str]) -> Classifier:
    """Read a classifier file.

    Parameters
    ----------
    path : path
        A file written by :meth:`Classifier.save`.

    Returns
    -------
    Classifier

    Raises
    ------
    WeightsError
        If the file is not a classifier, is damaged, or its tensors do not match its network.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    try:
        with safe_open(file, framework="np") as content:
            header = json.loads((content.metadata() or {})[_METADATA_KEY])
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
    except OSError as error:
        raise WeightsError(f"{file.name} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise WeightsError(f"{file.name} is not a classifier of this project") from error
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{file.name} is truncated or damaged") from error
    if header.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{file.name} has format version {header.get('format_version')}; this program reads "
            f"version {FORMAT_VERSION}: install a newer sleepfm-index"
        )
    try:
        classifier = Classifier(
            name=str(header["name"]),
            classes=tuple(map(str, header["classes"])),
            modalities=tuple(map(str, header["modalities"])),
            contract=Contract.from_json(header["contract"]),
            record=dict(header["record"]),
            tensors=tensors,
        )
        classifier._network()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{file.name} is a damaged classifier, or one with another network"
        ) from error
    return classifier
