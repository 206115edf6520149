"""Protects the choice of views: a dropped view has its reason and its placements."""

import numpy as np
import pytest

from datagen.views.selection import drop_reason


@pytest.mark.parametrize(
    ("visible", "amodal", "min_visible_px", "expected"),
    [
        ([5, 1], [5, 9], 1, None),
        ([5, 7, 2, 0, 9, 0], [9, 9, 9, 9, 9, 9], 1, "occluded: placements 3, 5"),
        ([5, 0], [5, 0], 1, "too small: placements 1"),
        ([5, 9], [5, 30], 10, "too small: placements 0; occluded: placements 1"),
        ([10, 10], [10, 30], 10, None),
    ],
)
def test_view_is_dropped_with_the_reason_of_each_unseen_placement(
    visible, amodal, min_visible_px, expected
):
    found = drop_reason(np.array(visible), np.array(amodal), min_visible_px=min_visible_px)

    assert (found is None) == (expected is None)
    if expected is not None:
        assert sorted(found.split("; ")) == sorted(expected.split("; "))


@pytest.mark.parametrize(
    ("visible", "amodal", "fraction", "expected"),
    [
        ([50, 3], [100, 10], 0.3, None),
        ([50, 3], [100, 11], 0.3, "occluded: placements 1"),
        ([0], [0], 0.5, "too small: placements 0"),
        ([9], [10], 1.0, "occluded: placements 0"),
    ],
)
def test_view_is_dropped_if_too_small_a_share_of_a_placement_is_visible(
    visible, amodal, fraction, expected
):
    found = drop_reason(np.array(visible), np.array(amodal), min_visible_fraction=fraction)

    assert found == expected
