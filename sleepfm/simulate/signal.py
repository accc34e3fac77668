"""One channel of a simulated night."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Signal:
    """One channel: samples (float32), samples per second, and unit."""

    samples: NDArray[np.float32]
    rate: int
    unit: str
