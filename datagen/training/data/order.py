"""The global order of samples: a function of seed and position alone, so any position can resume.

The order is the same for any number of ranks and workers; each takes the positions of one
remainder. It is made so that each of them reads few blocks: position p comes from lane
p mod ``LANES``, and a lane reads ``WINDOW`` blocks at a time. If ranks times workers divides
``LANES``, every block is read once.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from datagen.core.seeding import rng_for
from datagen.errors import ConfigError

LANES = 32
"""Number of streams that give a sample each in turn; so this many neighbours in the order come
from different blocks."""
WINDOW = 2
"""Blocks of a lane whose samples are shuffled together."""
FINEST_WEIGHT = 1000
"""Weights are rounded to fractions with at most this denominator."""


def epoch_order(blocks: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return an order of all samples that opens at most ``LANES * WINDOW`` blocks at a time.

    The blocks are permuted and distributed over the lanes. A lane shuffles the samples of
    ``WINDOW`` blocks at a time. The lanes give one sample each in turn; an empty lane is skipped.

    Args:
        blocks: (N,), the block that holds each sample, from 0 without gaps.
        rng: the random stream of one epoch.

    Returns:
        (N,), a permutation of the samples' indices.
    """
    if not len(blocks):
        return np.empty(0, np.int64)
    place = rng.permutation(int(blocks.max()) + 1)[blocks]
    lane, window = place % LANES, place // (LANES * WINDOW)
    # One key sorts by lane, then by window, then at random: a second for millions of samples.
    shuffled = np.argsort(lane * (window.max() + 1) + window + rng.random(len(blocks)))
    lane = lane[shuffled]
    place_in_lane = np.arange(len(lane)) - np.searchsorted(lane, np.arange(LANES))[lane]
    table = np.full((place_in_lane.max() + 1, LANES), -1)
    table[place_in_lane, lane] = shuffled
    order: NDArray[np.int64] = table[table >= 0]
    return order


@dataclass(frozen=True)
class Mix:
    """The source of each position in the endless stream, and the index within its source."""

    shares: tuple[int, ...]
    """Positions of each source among every ``sum(shares)`` positions of a lane."""
    seed: int
    """Seed of the mix."""

    @classmethod
    def of(cls, weights: tuple[float, ...], seed: int) -> "Mix":
        """Return the mix that takes each source in proportion to its weight, whatever its size.

        Raises:
            ConfigError: there are no weights, or a weight is not above 0.
        """
        fractions = [Fraction(weight).limit_denominator(FINEST_WEIGHT) for weight in weights]
        if not fractions or min(fractions) <= 0:
            raise ConfigError(
                f"mix weights {weights}: expected a number of at least {1 / FINEST_WEIGHT} for "
                "each workspace."
            )
        whole = lcm(*(fraction.denominator for fraction in fractions))
        counts = [int(fraction * whole) for fraction in fractions]
        return cls(tuple(count // gcd(*counts) for count in counts), seed)

    def locate(self, position: int) -> tuple[int, int]:
        """Return the source of a position, and the index in that source's own stream.

        In each run of ``LANES * sum(shares)`` positions the shares are exact. Position and index
        have the same remainder modulo ``LANES``, so a mix reads no block more often.
        """
        rounds = sum(self.shares)
        run, rest = divmod(position, rounds * LANES)
        place, lane = divmod(rest, LANES)
        source_LR, index_LR = _schedule(self.shares, self.seed, run)
        source = int(source_LR[lane, place])
        return source, (run * self.shares[source] + int(index_LR[lane, place])) * LANES + lane


@lru_cache(maxsize=4)
def _schedule(
    shares: tuple[int, ...], seed: int, run: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the source of each (lane, round), and its earlier occurrences in that lane."""
    one_lane = np.repeat(np.arange(len(shares)), shares)
    source_LR = rng_for(seed, "mix", run).permuted(np.tile(one_lane, (LANES, 1)), axis=1)
    index_LR = np.zeros_like(source_LR)
    for source in range(len(shares)):
        chosen = source_LR == source
        index_LR[chosen] = (chosen.cumsum(axis=1) - 1)[chosen]
    return source_LR, index_LR
