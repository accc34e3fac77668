"""Selection of a backend: the fastest available whose vectors match PyTorch in float32.

Before a backend is used it encodes a few simulated clips. PyTorch's vectors of these clips and its
speed are cached per weights and machine (:mod:`sleepfm.encoders.reference`), so that a build can
start without importing torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from sleepfm.choices import BackendName
from sleepfm.encoders.backend import Backend, Options
from sleepfm.encoders.external import ExternalBackend, ExternalWeights
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError
from sleepfm.resources import cores

NAMES: Final[tuple[str, ...]] = get_args(BackendName)
MIN_COSINE: Final = 0.999
"""Minimum cosine between the vectors of a backend and of PyTorch in float32, for every check
clip."""

PLAIN: Final = "torch f32"
"""The reference backend."""

_GPU_DRIVERS: Final = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True)
class Choice:
    """A selected backend.

    Parameters
    ----------
    name : str
        Library and precision, e.g. ``openvino bf16``.
    backend : Backend
        Ready to run.
    why : str
        One sentence: why it was selected and why the others were not.
    """

    name: str
    backend: Backend
    why: str


def choose(weights: Weights | ExternalWeights, options: Options) -> Choice:
    """Select a backend for a set of weights.

    Parameters
    ----------
    weights : Weights or ExternalWeights
        The encoders to run; those of another package are run by it.
    options : Options
        Requested backend, device, threads and batch size.

    Returns
    -------
    Choice
        The selected backend with the reason.

    Raises
    ------
    WeightsError
        If the requested device or backend is not available, or none passes the check.
    """
    if options.backend not in NAMES:
        raise WeightsError(f"unknown backend {options.backend}; choose from {', '.join(NAMES)}")
    if isinstance(weights, ExternalWeights):
        return _external(weights, options)
    device = "cpu" if options.backend == "openvino" else resolve_device(options.device)
    if options.backend == "openvino" and options.device not in ("auto", "cpu"):
        raise WeightsError(
            f"OpenVINO runs on the CPU only, not on {options.device}; use --backend torch"
        )
    rejected: list[str] = []
    for name, make in _candidates(weights, options, device):
        if options.checked not in ("", name):
            continue
        try:
            backend = make()
            why = name
            if name not in (PLAIN, options.checked):
                why += f" ({_checked(backend, weights, options)})"
        except (WeightsError, RuntimeError) as error:  # RuntimeError: what OpenVINO and CUDA raise
            rejected.append(f"not {name}: {' '.join(str(error).split())}")
            continue
        return Choice(name, backend, "; ".join([why, *rejected]))
    raise WeightsError(f"the encoders cannot run with these options: {'; '.join(rejected)}")


def _external(weights: ExternalWeights, options: Options) -> Choice:
    if options.backend == "openvino":
        raise WeightsError(
            f"the encoder {weights.name} is run by its own package, {weights.package}; leave out "
            "--backend openvino"
        )
    device = resolve_device(options.device)
    backend = ExternalBackend(weights, device, options.threads or cores(), options.batch_size)
    why = f"{weights.package} on {device}: vectors of {weights.dimensions} dimensions"
    return Choice(weights.package, backend, why)


def resolve_device(device: str) -> str:
    """Resolve ``auto``; torch is imported only where a GPU driver is present.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Returns
    -------
    str
        The device that ``auto`` stands for, or the same device.

    Raises
    ------
    WeightsError
        If the device is not available.
    """
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
    """Yield names and constructors of backends, the presumably fastest first."""
    threads = options.threads or cores()
    if device == "cpu" and options.backend != "torch":
        from sleepfm.encoders.on_openvino import OpenVINO

        yield "openvino bf16", lambda: OpenVINO(weights, True, threads, options.batch_size)
        yield "openvino f32", lambda: OpenVINO(weights, False, threads, options.batch_size)
    if options.backend == "openvino":
        return
    from sleepfm.encoders.on_torch import on_torch

    for precision in ("f16", "bf16", "f32") if device.startswith("cuda") else ("f32",):
        make = partial(on_torch, weights, device, precision, options.threads, options.batch_size)
        yield f"torch {precision}", make


def _checked(backend: Backend, weights: Weights, options: Options) -> str:
    """Encode the check clips with a backend and describe its speed and accuracy.

    Raises
    ------
    WeightsError
        If its vectors differ from PyTorch's in float32, or under ``auto`` it is slower.
    """
    from sleepfm.encoders.reference import check_clips, reference, speed

    expected = reference(weights)
    min_cosine = 1.0
    for modality in weights.modalities:
        vectors = backend.run(modality, check_clips(weights, modality))
        min_cosine = min(min_cosine, _min_cosine(vectors, expected.vectors[modality]))
    if not min_cosine >= MIN_COSINE:
        raise WeightsError(f"its vectors differ from torch's in float32 (cosine {min_cosine:.4f})")
    agreement = f"cosine to {PLAIN} at least {min_cosine:.4f}"
    if backend.name.startswith("torch"):
        return agreement  # on a GPU, where speed is not compared
    rate = speed(backend, weights)
    comparison = f"{rate:,.0f} clips per CPU second, {PLAIN} {expected.clips_per_cpu_s:,.0f}"
    if options.backend == "auto" and rate < expected.clips_per_cpu_s:
        raise WeightsError(f"it is slower ({comparison})")
    return f"{comparison}; {agreement}"


def _min_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.min((x * y).sum(axis=1) / lengths))
