"""The order of samples is a permutation that opens few blocks, and mixes are exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.core.seeding import rng_for
from datagen.errors import ConfigError
from datagen.training.data.order import LANES, WINDOW, Mix, epoch_order


def blocks_of(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def open_blocks(blocks: np.ndarray, order: np.ndarray) -> int:
    """Return the most blocks that are begun and not finished at any time."""
    places = blocks[order]
    first = {block: i for i, block in reversed(list(enumerate(places)))}
    last = {block: i for i, block in enumerate(places)}
    opened, closed = np.zeros(len(places) + 1, int), np.zeros(len(places) + 1, int)
    for block in first:
        opened[first[block]] += 1
        closed[last[block] + 1] += 1
    return int((opened - closed).cumsum().max())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 32), max_size=200), st.integers(0, 5))
def test_order_is_a_permutation_of_all_samples(sizes, epoch):
    blocks = blocks_of(sizes)
    order = epoch_order(blocks, rng_for(0, "order", epoch))
    assert sorted(order) == list(range(len(blocks)))


def test_order_keeps_few_blocks_open():
    blocks = blocks_of([32] * 500)
    order = epoch_order(blocks, rng_for(0, "order"))
    assert open_blocks(blocks, order) <= LANES * WINDOW


@pytest.mark.parametrize("size", [1, 7, 32])
def test_lane_finishes_a_window_of_blocks_before_it_begins_the_next(size):
    blocks = blocks_of([size] * (LANES * WINDOW * 5))
    for epoch in range(5):
        by_lane = blocks[epoch_order(blocks, rng_for(0, "order", epoch))].reshape(-1, LANES).T
        for lane in by_lane:
            windows = lane.reshape(-1, WINDOW * size)
            assert all(len(set(window)) == WINDOW for window in windows)
            assert len(set(lane)) == WINDOW * len(windows), "a block comes back"


def test_samples_of_a_window_are_shuffled_together():
    blocks = blocks_of([32] * (LANES * WINDOW))
    by_lane = blocks[epoch_order(blocks, rng_for(0, "order"))].reshape(-1, LANES).T
    changes = [np.count_nonzero(np.diff(lane)) for lane in by_lane]
    assert min(changes) > 10  # one block after the other would be a single change


@pytest.mark.parametrize("readers", [2, 4, 8, 16, 32])
def test_readers_that_divide_the_lanes_share_no_block(readers):
    blocks = blocks_of([32] * (LANES * WINDOW * 4))
    order = epoch_order(blocks, rng_for(0, "order"))
    seen = [set(blocks[order[reader::readers]]) for reader in range(readers)]
    assert sum(map(len, seen)) == len(set(blocks))


def test_neighbours_in_the_order_come_from_as_many_blocks_as_there_are_lanes():
    blocks = blocks_of([20] * 640)
    batches = blocks[epoch_order(blocks, rng_for(0, "order"))].reshape(-1, LANES)
    assert all(len(set(batch)) == LANES for batch in batches)


def test_every_place_of_the_data_may_come_at_any_time():
    # Over epochs, a sample's place has the mean and standard deviation of a uniform distribution.
    blocks = blocks_of([8] * 200)
    places = np.stack([np.argsort(epoch_order(blocks, rng_for(0, e))) for e in range(200)])
    relative = places / len(blocks)
    np.testing.assert_allclose(relative.mean(axis=0), 0.5, atol=0.12)
    np.testing.assert_allclose(relative.std(), 1 / np.sqrt(12), atol=0.01)


def test_one_source_is_met_in_its_own_order():
    mix = Mix.of((0.7,), 0)
    assert [mix.locate(position) for position in range(100)] == [(0, i) for i in range(100)]


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((1.0, 0.5), (2, 1)),
        ((0.5, 0.5), (1, 1)),
        ((3.0, 1.0, 2.0), (3, 1, 2)),
        ((1, 0.01), (100, 1)),
    ],
)
def test_shares_of_a_mix_are_exact_in_every_run(weights, shares):
    mix = Mix.of(weights, seed=3)
    assert mix.shares == shares
    run = LANES * sum(shares)
    for start in (0, 5 * run):
        sources = [mix.locate(position)[0] for position in range(start, start + run)]
        assert np.bincount(sources).tolist() == [share * LANES for share in shares]


@pytest.mark.parametrize("weights", [(1.0, 0.5), (0.2, 0.3, 0.5)])
def test_mix_meets_every_place_of_a_source_once_and_in_its_lane(weights):
    mix = Mix.of(weights, seed=1)
    run = LANES * sum(mix.shares)
    located = [mix.locate(position) for position in range(3 * run)]
    for source, share in enumerate(mix.shares):
        assert sorted(i for s, i in located if s == source) == list(range(3 * share * LANES))
    assert all(position % LANES == index % LANES for position, (_, index) in enumerate(located))


def test_mix_of_even_weights_gives_each_rank_of_two_both_sources():
    mix = Mix.of((1.0, 1.0), seed=0)
    for rank in (0, 1):
        sources = [mix.locate(position)[0] for position in range(rank, 2048, 2)]
        assert 0.4 < np.mean(sources) < 0.6


@pytest.mark.parametrize("weights", [(), (1.0, 0.0), (1.0, -1.0), (1.0, 1e-5)])
def test_weight_that_is_not_above_zero_is_refused(weights):
    with pytest.raises(ConfigError, match="mix weights"):
        Mix.of(weights, 0)
