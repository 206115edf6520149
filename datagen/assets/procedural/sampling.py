"""Random parameters of procedural objects."""

import numpy as np


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a random number between low and high, rounded to 4 digits: short, stable JSON."""
    return round(float(rng.uniform(low, high)), 4)


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Return True with the given probability."""
    return bool(rng.random() < probability)
