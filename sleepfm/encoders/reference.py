"""Reference vectors: PyTorch's float32 output for a few simulated clips.

Every other backend is checked against them. They are computed once per set of weights and machine
and kept in the user's cache, in a file whose first 32 bytes are the SHA-256 of the rest. A damaged
file is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.atomic_write import write_bytes
from sleepfm.contract import Contract
from sleepfm.encoders.cache import cache_folder
from sleepfm.encoders.weights import Weights
from sleepfm.errors import OutputError

if TYPE_CHECKING:
    from sleepfm.encoders.backend import Backend

CLIPS: Final = 8
_EVERY: Final = 8


@dataclass(frozen=True)
class Reference:
    """PyTorch's output for the check clips, and its speed.

    Parameters
    ----------
    vectors : mapping of str to ndarray of float32, shape [8, 512]
        Not normalised.
    clips_per_cpu_s : float
        Clips per second of processor time, on one core.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    clips_per_cpu_s: float


@cache
def simulated_clips(contract_json: str) -> dict[str, NDArray[np.float32]]:
    """Cut eight clips from a simulated night, prepared as a contract requires.

    A slot that the simulation does not know contains noise: only the arithmetic is compared.

    Parameters
    ----------
    contract_json : str
        The contract as JSON, which can be hashed for the cache.

    Returns
    -------
    dict of str to ndarray of float32, shape [8, slots, samples]
        By modality.
    """
    from sleepfm.clips import cut_clips
    from sleepfm.recordings.channels import ChannelMap, SlotMatch
    from sleepfm.recordings.recording import Channel, Recording
    from sleepfm.recordings.scoring.vocabulary import Scoring
    from sleepfm.simulate.montage import FURTHER, render_montage
    from sleepfm.simulate.night import simulate_night
    from sleepfm.simulate.signal import Signal

    contract = Contract.from_json(json.loads(contract_json))
    night = simulate_night(seed=0, subject_number=1, epochs=CLIPS * _EVERY)
    slots = contract.all_slots
    signals = render_montage(night, further=[slot for slot in slots if slot in FURTHER])
    for slot in slots:
        if slot not in signals:
            noise = night.streams(f"noise {slot}").standard_normal(night.seconds * 64, np.float32)
            signals[slot] = Signal(90 + noise, 64, contract.unit_of(slot))
    channels = tuple(
        Channel(label, signal.rate, signal.unit, signal.samples.copy)
        for label, signal in signals.items()
    )
    recording = Recording((Path("simulated"),), "", night.seconds, None, channels, Scoring())
    filled = ChannelMap({slot: SlotMatch(slot, (slot,), "alias") for slot in slots}, ())
    clips = cut_clips(recording, filled, contract)
    return {m: clips.signals[m][::_EVERY] for m in clips.signals}


def check_clips(weights: Weights, modality: str) -> NDArray[np.float32]:
    """Return the clips on which backends are checked.

    Parameters
    ----------
    weights : Weights
        Weights, whose contract determines the preparation of the clips.
    modality : str
        The modality.

    Returns
    -------
    ndarray of float32, shape [8, slots, samples]
    """
    return simulated_clips(json.dumps(weights.contract.to_json()))[modality]


def reference(weights: Weights) -> Reference:
    """Return PyTorch's vectors of the check clips, from the cache if possible.

    Parameters
    ----------
    weights : Weights
        Weights to run.

    Returns
    -------
    Reference
    """
    path = cache_folder() / "references" / f"{_key(weights)}.bin"
    cached = _read(path, weights)
    if cached is not None:
        return cached
    computed = _compute(weights)
    content = io.BytesIO()
    arrays: dict[str, NDArray[Any]] = dict(computed.vectors)
    arrays["clips_per_cpu_s"] = np.array([computed.clips_per_cpu_s])
    np.savez(content, allow_pickle=False, **arrays)
    digest = hashlib.sha256(content.getvalue()).digest()
    with contextlib.suppress(OutputError):  # a cache that cannot be written costs time only
        write_bytes(path, digest + content.getvalue())
    return computed


def speed(backend: Backend, weights: Weights) -> float:
    """Measure clips per second of processor time, the better of two runs.

    Processor time is used because wall-clock time depends on what else the machine is doing.

    Parameters
    ----------
    backend : Backend
        It should have run before, so that compilation is not measured.
    weights : Weights
        Their first modality is encoded.

    Returns
    -------
    float
    """
    modality = weights.modalities[0]
    clips = check_clips(weights, modality)
    seconds = []
    for _ in range(2):
        start = time.process_time()
        backend.run(modality, clips)
        seconds.append(time.process_time() - start)
    return len(clips) / max(min(seconds), 1e-9)


def _compute(weights: Weights) -> Reference:
    import torch

    from sleepfm.encoders.on_torch import Torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        backend = Torch(weights, torch.device("cpu"))
        vectors = {m: backend.run(m, check_clips(weights, m)) for m in weights.modalities}
        return Reference(vectors, speed(backend, weights))
    finally:
        torch.set_num_threads(threads)


def _read(path: Path, weights: Weights) -> Reference | None:
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        with np.load(io.BytesIO(content[32:]), allow_pickle=False) as arrays:
            vectors = {m: arrays[m] for m in weights.modalities}
            return Reference(vectors, float(arrays["clips_per_cpu_s"][0]))
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _key(weights: Weights) -> str:
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    clips = b"".join(check_clips(weights, m).tobytes() for m in weights.modalities)
    parts = [weights.sha256, torch, processor(), hashlib.sha256(clips).hexdigest()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def processor() -> str:
    """Read the name of the processor, e.g. ``AMD EPYC``.

    Returns
    -------
    str
    """
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
