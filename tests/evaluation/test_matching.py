"""Instances find their true partners by every rule, and what is left over is counted."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import RowError
from datagen.evaluation import match_by_name, match_by_order, match_by_overlap, voxel_iou
from datagen.evaluation.matching import surface_voxels


def box(center, extents=(0.2, 0.2, 0.2)):
    mesh = trimesh.creation.box(extents)
    return np.asarray(mesh.vertices) + center, np.asarray(mesh.faces)


TRUE = [box((-0.3, 0, 0)), box((0.3, 0, 0)), box((0, 0.3, 0), (0.1, 0.1, 0.4)), box((0, -0.3, 0))]


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(4)))
def test_shuffled_instances_find_their_partners_again(order):
    rng = np.random.default_rng(0)
    shuffled = [(TRUE[i][0] + rng.normal(scale=0.01, size=3), TRUE[i][1]) for i in order]
    matching = match_by_overlap(shuffled, TRUE)
    assert [order[partner] for partner in matching.partners] == [0, 1, 2, 3]
    assert (matching.missing, matching.unmatched) == ((), ())


def test_missing_and_unmatched_and_duplicate_instances_are_counted():
    predicted = [TRUE[1], TRUE[1], None, box((2, 2, 2)), TRUE[3]]
    matching = match_by_overlap(predicted, TRUE)
    assert matching.missing == (0, 2)
    assert matching.partners[1] in (0, 1) and matching.partners[3] == 4
    assert len(matching.unmatched) == 2 and 3 in matching.unmatched


def test_assignment_is_the_best_in_all_and_not_greedy():
    # The long box overlaps the first best, but only it can have the second.
    true = [box((0, 0, 0), (1, 1, 1)), box((1.0, 0, 0), (1, 1, 1))]
    predicted = [box((0.45, 0, 0), (1.1, 1, 1)), box((0, 0, 0.1), (1, 1, 1))]
    assert match_by_overlap(predicted, true).partners == (1, 0)


def test_nothing_predicted_leaves_everything_missing():
    assert match_by_overlap([None, None], TRUE).missing == (0, 1, 2, 3)
    assert match_by_overlap([], TRUE).missing == (0, 1, 2, 3)


def test_order_pairs_first_to_first_and_counts_the_rest():
    assert match_by_order(2, 3).partners == (0, 1, None)
    assert match_by_order(2, 3).missing == (2,)
    assert match_by_order(4, 3).unmatched == (3,)


def test_names_pair_whatever_their_order():
    matching = match_by_name(["b", "x", "a"], ["a", "b", "c"])
    assert matching.partners == (2, 0, None)
    assert (matching.missing, matching.unmatched) == ((2,), (1,))


def test_name_that_stands_twice_is_refused():
    with pytest.raises(RowError, match=r"'a' more than once \(of 3\)"):
        match_by_name(["a", "a", "b"], ["a"])


def surface_voxel_iou(first, second):
    return voxel_iou(*surface_voxels([first, second]))


def test_surface_voxel_iou_is_one_of_a_copy_none_apart_and_symmetric():
    assert surface_voxel_iou(TRUE[0], TRUE[0]) == 1.0
    assert surface_voxel_iou(TRUE[0], TRUE[1]) == 0.0
    shifted = box((-0.28, 0, 0))
    first, second = surface_voxel_iou(TRUE[0], shifted), surface_voxel_iou(shifted, TRUE[0])
    assert first == second
    assert 0 < first < 1
