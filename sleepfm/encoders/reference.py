"""What torch in float32 makes of a few simulated clips: every other backend is checked against it.

Worked out once for a set of weights and a machine, then kept in the user's cache: a file whose
first 32 bytes are the SHA-256 of the rest. A damaged one is made again.
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
from sleepfm.errors import WeightsError
from sleepfm.modality import Modality

if TYPE_CHECKING:
    from sleepfm.encoders.backend import Backend

CLIPS: Final = 8
_EVERY: Final = 8


@dataclass(frozen=True)
class Reference:
    """Vectors of the clips, [8, 512] per modality, and torch's speed on one core."""

    vectors: Mapping[Modality, NDArray[np.float32]]
    clips_per_cpu_s: float


@cache
def simulated_clips(contract_json: str) -> dict[Modality, NDArray[np.float32]]:
    """Give eight clips of a simulated night per modality, prepared as a contract asks."""
    from sleepfm.clips import cut_clips
    from sleepfm.recordings.channels import match_channels
    from sleepfm.recordings.recording import Channel, Recording
    from sleepfm.recordings.scoring.vocabulary import Scoring
    from sleepfm.simulate.night import render_night, simulate_night

    contract = Contract.from_json(json.loads(contract_json))
    night = simulate_night(seed=0, subject_number=1, epochs=CLIPS * _EVERY)
    channels = tuple(
        Channel(label, signal.rate, signal.unit, signal.samples.copy)
        for label, signal in render_night(night).items()
    )
    recording = Recording((Path("simulated"),), "", night.seconds, None, channels, Scoring())
    clips = cut_clips(recording, match_channels(recording, contract), contract)
    return {m: clips.signals[m][::_EVERY] for m in clips.signals}


def checked_clips(weights: Weights, modality: Modality) -> NDArray[np.float32]:
    """Give the clips that backends of some weights are checked on, [8, slots, samples]."""
    return simulated_clips(json.dumps(weights.contract.to_json()))[modality]


def reference(weights: Weights) -> Reference:
    """Give torch's own vectors of the clips, from the cache where they are there."""
    path = cache_folder() / "references" / f"{_key(weights)}.bin"
    known = _read(path, weights)
    if known is not None:
        return known
    made = _made(weights)
    content = io.BytesIO()
    arrays: dict[str, NDArray[Any]] = {m.value: v for m, v in made.vectors.items()}
    arrays["clips_per_cpu_s"] = np.array([made.clips_per_cpu_s])
    np.savez(content, allow_pickle=False, **arrays)
    digest = hashlib.sha256(content.getvalue()).digest()
    with contextlib.suppress(WeightsError):  # a cache that cannot be written costs time only
        write_bytes(path, digest + content.getvalue())
    return made


def speed(backend: Backend, weights: Weights) -> float:
    """Clips a second of processor time, the better of two runs; it should have run before.

    By the clock a busy machine would look slow to whoever is measured at the wrong moment.
    """
    modality = weights.modalities[0]
    clips = checked_clips(weights, modality)
    seconds = []
    for _ in range(2):
        start = time.process_time()
        backend.run(modality, clips)
        seconds.append(time.process_time() - start)
    return len(clips) / max(min(seconds), 1e-9)


def _made(weights: Weights) -> Reference:
    import torch

    from sleepfm.encoders.on_torch import Torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        backend = Torch(weights, torch.device("cpu"))
        vectors = {m: backend.run(m, checked_clips(weights, m)) for m in weights.modalities}
        return Reference(vectors, speed(backend, weights))
    finally:
        torch.set_num_threads(threads)


def _read(path: Path, weights: Weights) -> Reference | None:
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        with np.load(io.BytesIO(content[32:]), allow_pickle=False) as kept:
            vectors = {m: kept[m.value] for m in weights.modalities}
            return Reference(vectors, float(kept["clips_per_cpu_s"][0]))
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _key(weights: Weights) -> str:
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    clips = b"".join(checked_clips(weights, m).tobytes() for m in weights.modalities)
    parts = [weights.sha256, torch, processor(), hashlib.sha256(clips).hexdigest()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
