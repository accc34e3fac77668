"""What runs the encoders, and how it is to run them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import Modality


class Backend(Protocol):
    """What runs the encoders."""

    name: str

    def run(self, modality: Modality, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the vectors of clips [n, slots, samples]: [n, 512], not normalised.

        A clip's vector depends on that clip alone.
        """


@dataclass(frozen=True)
class Options:
    """How encoders are to be run; plain values.

    Parameters
    ----------
    backend : {"auto", "torch", "openvino"}
        ``auto`` takes the fastest that passes the check.
    device : str
        ``auto`` (CUDA, else Apple's MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    threads : int, optional
        Threads on the CPU; by default all cores that this process may use.
    batch_size : int, optional
        Clips at a time; by default what is fastest for the backend.
    checked : str
        Name of a choice made before on the same machine, which is taken without another check.
    """

    backend: str = "auto"
    device: str = "auto"
    threads: int | None = None
    batch_size: int | None = None
    checked: str = ""
