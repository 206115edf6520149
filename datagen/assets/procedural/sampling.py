"""Numbers for parameters, rounded so that their JSON spelling is short and stable."""

import numpy as np


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number from U(low, high), to a tenth of a millimetre."""
    return round(float(rng.uniform(low, high)), 4)


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Return True with a probability."""
    return bool(rng.random() < probability)
