"""A classifier: the encoder's network with a class head, as one file, ready to run.

A safetensors file with the network's tensors; its one metadata entry, ``sleepfm-classifier``, is
JSON: format version, name, classes, modalities whose channels are stacked, contract and training
record.
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
from sleepfm.encoders.effnet import EffNet, folded
from sleepfm.errors import WeightsError
from sleepfm.modality import Modality

FORMAT_VERSION: Final = 1
_METADATA_KEY: Final = "sleepfm-classifier"
_BATCH: Final = 32


@dataclass(frozen=True)
class Classifier:
    """A trained network and what it tells apart.

    Parameters
    ----------
    name : str
        How people call it.
    classes : tuple of str
        In the order of the outputs.
    modalities : tuple of Modality
        Whose channels are stacked, in order.
    contract : Contract
        What it expects of its input.
    record : dict
        How it was trained; JSON values.
    tensors : mapping of str to ndarray
        State dict of the network.
    """

    name: str
    classes: tuple[str, ...]
    modalities: tuple[Modality, ...]
    contract: Contract
    record: dict[str, Any]
    tensors: Mapping[str, NDArray[Any]] = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one safetensors file, which is whole or not there.

        Raises
        ------
        WeightsError
            If it cannot be written.
        """
        from safetensors.numpy import save

        about = {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "classes": list(self.classes),
            "modalities": [str(m) for m in self.modalities],
            "contract": self.contract.to_json(),
            "record": self.record,
        }
        text = json.dumps(about, sort_keys=True, separators=(",", ":"))
        content = save(dict(self.tensors), metadata={_METADATA_KEY: text})
        return write_bytes(Path(path), content)

    def probabilities(self, clips: Mapping[Modality, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Classify clips, on the CPU.

        Parameters
        ----------
        clips : mapping of Modality to ndarray of float32, shape [n, slots, samples]
            Prepared as the contract asks; a modality that a clip lacks is zero.

        Returns
        -------
        ndarray of float32, shape [n, classes]
            Each row sums to 1.

        Raises
        ------
        WeightsError
            If a modality is missing, or its clips do not fit the contract or are not finite.
        """
        for modality in self.modalities:
            if modality not in clips:
                raise WeightsError(f"{self.name} needs {modality} clips.")
            expected = (len(self.contract.slots_of(modality)), self.contract.clip_samples)
            if clips[modality].shape[1:] != expected or not np.isfinite(clips[modality]).all():
                raise WeightsError(
                    f"{modality} clips must be finite, of the shape [n, {expected[0]}, "
                    f"{expected[1]}]; these are {list(clips[modality].shape)}."
                )
        stacked = np.concatenate([clips[m] for m in self.modalities], axis=1)
        network = folded(self._network())
        with torch.inference_mode():
            whole = torch.from_numpy(stacked)
            parts = [network(part).softmax(1) for part in torch.split(whole, _BATCH)]
        out: NDArray[np.float32] = torch.cat(parts).numpy()
        return out

    def _network(self) -> EffNet:
        channels = sum(len(self.contract.slots_of(m)) for m in self.modalities)
        network = EffNet(channels, outputs=len(self.classes))
        state = {k: torch.from_numpy(np.array(v)) for k, v in self.tensors.items()}
        network.load_state_dict(state)
        return network.eval()


def load_classifier(path: str | os.PathLike[str]) -> Classifier:
    """Read a classifier's file.

    Raises
    ------
    WeightsError
        If it is none, is damaged, or its tensors are not those of its network.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    try:
        with safe_open(file, framework="np") as content:
            about = json.loads((content.metadata() or {})[_METADATA_KEY])
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
    except OSError as error:
        raise WeightsError(f"{file.name} cannot be read: {error.strerror or error}.") from error
    except KeyError as error:
        raise WeightsError(f"{file.name} does not hold a classifier of this project.") from error
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{file.name} is truncated or damaged.") from error
    if about.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{file.name} has format version {about.get('format_version')}; this program reads "
            f"{FORMAT_VERSION}: use a newer one."
        )
    try:
        found = Classifier(
            name=str(about["name"]),
            classes=tuple(map(str, about["classes"])),
            modalities=tuple(Modality(m) for m in about["modalities"]),
            contract=Contract.from_json(about["contract"]),
            record=dict(about["record"]),
            tensors=tensors,
        )
        found._network()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{file.name} holds a damaged or another classifier.") from error
    return found
