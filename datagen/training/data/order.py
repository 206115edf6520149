"""The global order of samples: a pure function of seed and position, so that any place resumes.

A sample's place never depends on ranks or workers. They take positions by remainder, and the order
is made so that each of them then reads few blocks: position p comes from lane p mod ``LANES``, and
a lane reads ``WINDOW`` blocks at a time. Whatever divides ``LANES`` reads every block once.
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
"""Streams that are read in turn: as many neighbours in the order come from different blocks."""
WINDOW = 2
"""Blocks of a lane whose samples are shuffled together."""
FINEST_WEIGHT = 1000
"""Weights are taken as fractions with at most this denominator."""


def epoch_order(blocks: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return an order of all samples that opens at most ``LANES * WINDOW`` blocks at a time.

    Blocks are permuted and dealt to lanes; a lane shuffles the samples of ``WINDOW`` blocks at a
    time; the lanes give a sample each in turn, and one that is empty is passed over.

    Args:
        blocks: (N,), the block that holds each sample, from 0 without gaps.
        rng: of one epoch.

    Returns:
        (N,), a permutation of the samples' indices.
    """
    if not len(blocks):
        return np.empty(0, np.int64)
    place = rng.permutation(int(blocks.max()) + 1)[blocks]
    lane, window = place % LANES, place // (LANES * WINDOW)
    # A sort by lane, then window, then chance, in one key: millions of samples take a second.
    shuffled = np.argsort(lane * (window.max() + 1) + window + rng.random(len(blocks)))
    lane = lane[shuffled]
    turn = np.arange(len(lane)) - np.searchsorted(lane, np.arange(LANES))[lane]
    turns = np.full((turn.max() + 1, LANES), -1)
    turns[turn, lane] = shuffled
    order: NDArray[np.int64] = turns[turns >= 0]
    return order


@dataclass(frozen=True)
class Mix:
    """Which source each position of the endless stream takes, and that source's how-manieth."""

    shares: tuple[int, ...]
    """Of every ``sum(shares)`` positions of a lane, so many belong to each source."""
    seed: int

    @classmethod
    def of(cls, weights: tuple[float, ...], seed: int) -> "Mix":
        """Return the mix in which a source is met in proportion to its weight, not its size.

        Raises:
            ConfigError: a weight is not above 0.
        """
        fractions = [Fraction(weight).limit_denominator(FINEST_WEIGHT) for weight in weights]
        if not fractions or min(fractions) <= 0:
            raise ConfigError(
                f"mix weights {weights}: expected numbers of at least {1 / FINEST_WEIGHT}, one "
                "for each workspace."
            )
        whole = lcm(*(fraction.denominator for fraction in fractions))
        counts = [int(fraction * whole) for fraction in fractions]
        return cls(tuple(count // gcd(*counts) for count in counts), seed)

    def locate(self, position: int) -> tuple[int, int]:
        """Return the source of a position, and the index in that source's own stream.

        Within each run of ``LANES * sum(shares)`` positions the shares are exact. Position and
        index have the same remainder by ``LANES``, so that mixing costs no additional reading.
        """
        rounds = sum(self.shares)
        run, rest = divmod(position, rounds * LANES)
        turn, lane = divmod(rest, LANES)
        source_LR, index_LR = _schedule(self.shares, self.seed, run)
        source = int(source_LR[lane, turn])
        return source, (run * self.shares[source] + int(index_LR[lane, turn])) * LANES + lane


@lru_cache(maxsize=4)
def _schedule(
    shares: tuple[int, ...], seed: int, run: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the source of each (lane, round), and how often the lane had that source before."""
    one_lane = np.repeat(np.arange(len(shares)), shares)
    source_LR = rng_for(seed, "mix", run).permuted(np.tile(one_lane, (LANES, 1)), axis=1)
    index_LR = np.zeros_like(source_LR)
    for source in range(len(shares)):
        chosen = source_LR == source
        index_LR[chosen] = (chosen.cumsum(axis=1) - 1)[chosen]
    return source_LR, index_LR
