"""Student's t distribution without scipy, whose import takes longer than most evaluations."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)


@cache
def student_cdf(t: float, degrees: float) -> float:
    """Distribution function of Student's t for t >= 0, by Gauss-Legendre quadrature.

    Parameters
    ----------
    t : float
        Value of t, at least 0.
    degrees : float
        Degrees of freedom.
    """
    # with t = sqrt(degrees) tan(x) the density is a power of a cosine
    end = math.atan(t / math.sqrt(degrees))
    area = float(_WEIGHTS @ np.cos(end * (_NODES + 1) / 2) ** (degrees - 1)) * end / 2
    scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(math.pi) / 2
    return min(0.5 + area * math.exp(scale), 1.0)


@cache
def student_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t for a probability of at least a half, by bisection.

    Equivalent to ``scipy.special.stdtrit``, without importing scipy.

    Parameters
    ----------
    probability : float
        Probability, at least 0.5 and below 1.
    degrees : float
        Degrees of freedom.
    """
    low, high = 0.0, 1.0
    while student_cdf(high, degrees) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if student_cdf(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2
