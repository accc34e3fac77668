"""The weights and inputs of the parity data, which are drawn and not stored."""

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

AUTHORS_NAMES = {
    "bas": "sleep_stages",
    "ecg": "ekg",
    "resp": "respiratory",
}
AUTHORS_ORDER = ("resp", "bas", "ecg")
SLOTS = {"bas": 5, "ecg": 1, "resp": 3}


def _values(name: str, key: str, shape: list[int]) -> np.ndarray:
    draw = np.random.default_rng(crc32(f"{name}.{key}".encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
        values = draw.uniform(0.5, 1.5, shape)
    elif len(shape) == 1:
        values = 0.1 * draw.standard_normal(shape)
    else:
        values = np.sqrt(2 / np.prod(shape[1:])) * draw.standard_normal(shape)
    return values.astype(np.float32)


def state_dict(folder: Path, modality: str) -> dict[str, torch.Tensor]:
    """The authors' layout, keys with DataParallel's prefix."""
    name = AUTHORS_NAMES[modality]
    spec = json.loads((folder / "state_dict_spec.json").read_text())
    return {
        key: torch.from_numpy(_values(name, key.removeprefix("module."), shape))
        for key, shape, _ in spec[name]
    }


def checkpoint(folder: Path) -> dict[str, object]:
    """A whole checkpoint as the authors save it."""
    states = {f"{n}_state_dict": state_dict(folder, m) for m, n in AUTHORS_NAMES.items()}
    return {
        "epoch": 20,
        "temperature": torch.nn.Parameter(torch.tensor(2.0)),
        "optim_dict": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
        "scheduler_dict": {"step_size": 5, "last_epoch": 20},
        "best_loss": np.float64(1.5),
        "loss": 1.25,
        **states,
    }


def clips(modality: str) -> np.ndarray:
    """The input: [4, slots, 7680]."""
    draw = np.random.default_rng(crc32(f"input.{AUTHORS_NAMES[modality]}".encode()))
    return draw.standard_normal((4, SLOTS[modality], 7680)).astype(np.float32)


def expected(folder: Path, key: str, modality: str) -> np.ndarray:
    with np.load(folder / "reference.npz") as reference:
        return reference[f"{key}.{AUTHORS_NAMES[modality]}"]
