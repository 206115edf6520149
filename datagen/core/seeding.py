"""Seeded random generators: all randomness of the project comes from here."""

import hashlib

import numpy as np


def rng_for(seed: int, *keys: str | int) -> np.random.Generator:
    """Return the random generator of one thing, e.g. ``rng_for(7, "layouts", layout_id)``.

    Its numbers depend on the seed and the keys alone. They are the same in any order of calls, on
    any worker and any machine.
    """
    digest = hashlib.sha256("\0".join(map(str, keys)).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def seed_for(seed: int, *keys: str | int) -> int:
    """Return a seed below 2**31 for a library that takes a number: the first of ``rng_for``."""
    return int(rng_for(seed, *keys).integers(2**31))
