"""Which backend encodes: the fastest at hand whose vectors are those of torch in float32.

A backend encodes a few simulated clips before it is used. What torch makes of them, and how fast,
is kept in the user's cache by weights and machine (:mod:`sleepfm.encoders.reference`), so that a
build can start without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sleepfm.encoders.backend import Backend, Options
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError
from sleepfm.resources import cores

Name = Literal["auto", "torch", "openvino"]
NAMES: Final[tuple[str, ...]] = get_args(Name)
LEAST_COSINE: Final = 0.999
"""Of every checked clip's vector with that of torch in float32."""

PLAIN: Final = "torch f32"
"""What the others are checked against."""

_GPU_DRIVERS: Final = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True)
class Choice:
    """A backend, and in one sentence why it was taken and the others were not."""

    name: str
    backend: Backend
    why: str


def choose(weights: Weights, options: Options) -> Choice:
    """Choose a backend.

    Raises
    ------
    WeightsError
        If the device or the backend that was asked for is not there, or none passes the check.
    """
    if options.backend not in NAMES:
        raise WeightsError(f"There is no backend {options.backend}; use {', '.join(NAMES)}.")
    device = "cpu" if options.backend == "openvino" else where(options.device)
    if options.backend == "openvino" and options.device not in ("auto", "cpu"):
        raise WeightsError(f"OpenVINO runs on the CPU here, not on {options.device}; use torch.")
    against: list[str] = []
    for name, make in _candidates(weights, options, device):
        if options.checked not in ("", name):
            continue
        try:
            backend = make()
            why = name
            if name not in (PLAIN, options.checked):
                why += f" ({_checked(backend, weights, options)})"
        except (WeightsError, RuntimeError) as error:  # RuntimeError: what OpenVINO and CUDA raise
            against.append(f"not {name}: {' '.join(str(error).split())}")
            continue
        return Choice(name, backend, "; ".join([why, *against]))
    raise WeightsError(f"The encoders cannot run as asked: {'; '.join(against)}.")


def where(device: str) -> str:
    """Resolve ``auto``, without torch where there is no sign of a GPU."""
    if device == "cpu":
        return "cpu"
    drivers = sys.platform == "darwin" or any(Path(driver).exists() for driver in _GPU_DRIVERS)
    if device == "auto" and not drivers:
        return "cpu"
    from sleepfm.encoders.on_torch import choose_device

    return str(choose_device(device))


def _candidates(
    weights: Weights, options: Options, device: str
) -> Iterator[tuple[str, Callable[[], Backend]]]:
    """Backends by name, those that should be fastest first."""
    threads = options.threads or cores()
    if device == "cpu" and options.backend != "torch":
        from sleepfm.encoders.on_openvino import OpenVINO

        yield "openvino bf16", lambda: OpenVINO(weights, True, threads, options.batch_size)
        yield "openvino f32", lambda: OpenVINO(weights, False, threads, options.batch_size)
    if options.backend == "openvino":
        return
    from sleepfm.encoders.on_torch import on_torch

    for kind in ("f16", "bf16", "f32") if device.startswith("cuda") else ("f32",):
        make = partial(on_torch, weights, device, kind, options.threads, options.batch_size)
        yield f"torch {kind}", make


def _checked(backend: Backend, weights: Weights, options: Options) -> str:
    """Let a backend encode the clips of the check; say how fast it was, and how close.

    Raises
    ------
    WeightsError
        If it gives other vectors than torch in float32, or under ``auto`` is slower.
    """
    from sleepfm.encoders.reference import checked_clips, reference, speed

    known = reference(weights)
    least = 1.0
    for modality in weights.modalities:
        found = backend.run(modality, checked_clips(weights, modality))
        least = min(least, _least_cosine(found, known.vectors[modality]))
    if not least >= LEAST_COSINE:
        raise WeightsError(f"its vectors differ from torch's in float32 (cosine {least:.4f})")
    close = f"cosine to {PLAIN} at least {least:.4f}"
    if backend.name.startswith("torch"):
        return close  # on a GPU, where half precision needs no measuring
    rate = speed(backend, weights)
    compared = f"{rate:,.0f} clips a CPU second, {PLAIN} {known.clips_per_cpu_s:,.0f}"
    if options.backend == "auto" and rate < known.clips_per_cpu_s:
        raise WeightsError(f"it is slower ({compared})")
    return f"{compared}; {close}"


def _least_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.min((x * y).sum(axis=1) / lengths))
