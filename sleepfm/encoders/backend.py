"""The interface of an encoder backend, and the options that select and configure one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Backend(Protocol):
    """A library and device that run the encoders.

    Attributes
    ----------
    name : str
        Library, precision and device, e.g. ``openvino bf16`` or ``torch f16 on cuda``.
    """

    name: str

    def run(self, modality: str, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode clips; each vector depends on its own clip alone.

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


@dataclass(frozen=True)
class Options:
    """Selection and configuration of a backend; plain values that can be pickled.

    Parameters
    ----------
    backend : {"auto", "torch", "openvino"}
        ``auto`` selects the fastest that passes the check.
    device : str
        ``auto`` (CUDA, else Apple's MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    threads : int, optional
        Threads on the CPU; by default all cores that this process may use.
    batch_size : int, optional
        Clips per batch; by default the fastest size for the backend.
    checked : str
        Name of a backend that passed the check earlier on this machine; it is used without
        another check.
    """

    backend: str = "auto"
    device: str = "auto"
    threads: int | None = None
    batch_size: int | None = None
    checked: str = ""
