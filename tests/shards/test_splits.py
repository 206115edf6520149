"""Splits depend on an id alone, in the stated shares, and never change between versions."""

import pytest

from datagen.shards.splits import asset_split, validation_layouts

HELD_OUT_OF_100 = [8, 14, 24, 28, 77, 81, 82, 85, 86, 94]
SPLITS_OF_20 = [
    "test",
    "train",
    "train",
    "train",
    "train",
    "train",
    "train",
    "train",
    "test",
    "train",
    "val",
    "train",
    "train",
    "train",
    "train",
    "train",
    "train",
    "train",
    "train",
    "train",
]


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.8])
def test_share_of_scenes_held_out_is_the_fraction(fraction):
    held_out = validation_layouts(range(20_000), fraction)
    deviation = (fraction * (1 - fraction) / 20_000) ** 0.5
    assert abs(len(held_out) / 20_000 - fraction) < 4 * deviation


def test_scene_is_held_out_whatever_other_scenes_there_are():
    few, many = validation_layouts(range(100), 0.1), validation_layouts(range(1000), 0.1)
    assert few == {layout_id for layout_id in many if layout_id < 100}
    assert validation_layouts([7, 7, *range(99, -1, -1)], 0.1) == few


def test_larger_fraction_holds_out_more_of_the_same_scenes():
    assert validation_layouts(range(500), 0.1) < validation_layouts(range(500), 0.2)


def test_one_scene_is_held_out_where_chance_takes_none_and_it_is_always_the_same():
    [only] = validation_layouts(range(50), 1e-9)
    assert validation_layouts(range(50), 1e-12) == {only}
    assert {only} < validation_layouts(range(50), 0.1)


@pytest.mark.parametrize(("ids", "fraction"), [([], 0.5), ([3], 0.5), ([3, 3], 0.5), ([1, 2], 0)])
def test_nothing_is_held_out_of_one_scene_or_with_no_fraction(ids, fraction):
    assert validation_layouts(ids, fraction) == set()


def test_two_scenes_are_one_for_each_side():
    assert len(validation_layouts([1, 2], 0.01)) == 1


def test_splits_are_those_of_every_version_before():
    """A dataset's test objects must not become another one's training objects."""
    assert sorted(validation_layouts(range(100), 0.1)) == HELD_OUT_OF_100
    assert [asset_split(f"asset {i}") for i in range(20)] == SPLITS_OF_20
