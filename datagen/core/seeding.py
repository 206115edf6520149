"""The one source of randomness."""

import hashlib

import numpy as np


def rng_for(seed: int, *keys: str | int) -> np.random.Generator:
    """Return the generator belonging to one thing, e.g. ``rng_for(7, "layouts", layout_id)``.

    The stream depends on the seed and the keys alone, never on order, worker or machine.
    """
    digest = hashlib.sha256("\0".join(map(str, keys)).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def seed_for(seed: int, *keys: str | int) -> int:
    """Return a 31-bit seed for a library that takes a number, from the same stream."""
    return int(rng_for(seed, *keys).integers(2**31))
