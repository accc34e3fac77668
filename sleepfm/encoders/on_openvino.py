"""The encoders under OpenVINO, on the CPU.

Each thread runs a stream of its own on small batches, so that the activations of a clip stay in
that core's cache. On processors with bfloat16 arithmetic (AMX, AVX512-BF16), all but the early part
of the network uses it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.encoders.graph import early_graph, late_graph
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError
from sleepfm.modality import EMBEDDING_DIM

BATCH: Final = 8
"""Clips per batch and thread: the fastest of 1, 2, 4 .. 32 (benchmarks/encode.py)."""
_REPORTING: Final = ("openvino.tools.ovc", "openvino_telemetry")


class OpenVINO:
    """Backend ``openvino``, float32 or mostly bfloat16.

    Parameters
    ----------
    weights : Weights
        Weights to run.
    half : bool
        Run the late part in bfloat16.
    threads : int
        Batches that run in parallel, one thread each.
    batch_size : int, optional
        Clips per batch. The last batch is padded with zeros, so that a clip's vector does not
        depend on the number of clips.

    Raises
    ------
    WeightsError
        If OpenVINO is not installed, or ``half`` is requested on a processor without bfloat16.
    """

    def __init__(
        self, weights: Weights, half: bool, threads: int, batch_size: int | None = None
    ) -> None:
        self.name = "openvino bf16" if half else "openvino f32"
        self._core = load().Core()
        if half and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise WeightsError("this processor has no bfloat16 arithmetic")
        self._weights = weights
        self._half = half
        self._batch = batch_size or BATCH
        self._pool = ThreadPoolExecutor(threads)
        self._threads = threads
        self._requests: dict[str, SimpleQueue[tuple[Any, Any]]] = {}

    def run(self, modality: str, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode clips.

        Parameters
        ----------
        modality : str
            The encoder to run.
        clips : ndarray of float32, shape [n, slots, samples]
            Prepared as the weights' contract requires.

        Returns
        -------
        ndarray of float32, shape [n, 512]
            Not normalised.
        """
        out = np.empty((len(clips), EMBEDDING_DIM), np.float32)
        requests = self._requests.get(modality)
        if requests is None:
            requests = self._requests[modality] = self._compiled(modality)

        def one(start: int) -> None:
            batch = clips[start : start + self._batch]
            real = len(batch)
            if real < self._batch:
                batch = np.concatenate(
                    [batch, np.zeros((self._batch - real, *batch.shape[1:]), np.float32)]
                )
            request = requests.get()
            try:
                for part in request:
                    batch = part.infer([np.ascontiguousarray(batch)], share_inputs=True)[0]
                out[start : start + real] = batch[:real]
            finally:
                requests.put(request)

        for _ in self._pool.map(one, range(0, len(clips), self._batch)):
            pass
        return out

    def _compiled(self, modality: str) -> SimpleQueue[tuple[Any, Any]]:
        contract = self._weights.contract
        tensors = self._weights.tensors[modality]
        slots = len(contract.slots_of(modality))
        early = early_graph(tensors, self._batch, slots, contract.clip_samples)
        _, width, length = early.output(0).shape
        parts = [
            self._core.compile_model(graph, "CPU", self._options(half))
            for graph, half in (
                (early, False),
                (late_graph(tensors, self._batch, width, length), self._half),
            )
        ]
        requests: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        for _ in range(self._threads):
            requests.put((parts[0].create_infer_request(), parts[1].create_infer_request()))
        return requests

    def _options(self, half: bool) -> dict[str, object]:
        return {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "NUM_STREAMS": self._threads,
            "INFERENCE_NUM_THREADS": self._threads,
            # Parallel processes would all be pinned to the same first cores.
            "ENABLE_CPU_PINNING": False,
        }


def load() -> ModuleType:
    """Import OpenVINO without the part that reports its use over the network.

    A plain ``import openvino`` sends an event and writes an identifier into the home folder. It
    does neither if the converter, which is not needed here, cannot be imported.

    Returns
    -------
    module
        ``openvino``.

    Raises
    ------
    WeightsError
        If OpenVINO cannot be imported.
    """
    with _hidden(*_REPORTING):
        try:
            return importlib.import_module("openvino")
        except ImportError as error:
            raise WeightsError(f"OpenVINO cannot be imported ({error})") from error


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
