"""Metrics against clouds whose distance is known and against plain formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from datagen.core.seeding import rng_for
from datagen.errors import RowError
from datagen.evaluation.formulas import (
    box_iou,
    cd_l2_mean,
    cd_sq_sum,
    f_score,
    nearest_distances,
    voxel_iou,
)
from datagen.evaluation.metrics import metrics_at, of_clouds, scores_of

CLOUDS = st.integers(1, 20).flatmap(
    lambda n: arrays(np.float64, (n, 3), elements=st.floats(-2, 2, width=32))
)
GRIDS = arrays(bool, (4, 4, 4))


def distance_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))


def test_chamfer_of_two_single_points_is_known():
    a, b = np.array([[0.0, 0, 0]]), np.array([[0.0, 3, 4]])
    assert cd_sq_sum(a, b) == pytest.approx(50.0)  # 25 + 25
    assert cd_l2_mean(a, b) == pytest.approx(5.0)  # (5 + 5) / 2


def test_chamfer_directions_are_both_counted():
    # p = 0 to Q: 0; q to P: 0 and 2. Squared sum: 0 + (0 + 4) / 2; mean: (0 + 1) / 2.
    p, q = np.array([[0.0, 0, 0]]), np.array([[0.0, 0, 0], [2, 0, 0]])
    assert cd_sq_sum(p, q) == pytest.approx(2.0)
    assert cd_l2_mean(p, q) == pytest.approx(0.5)


def test_f_score_is_the_harmonic_mean_of_precision_and_recall():
    predicted = np.array([[0.0, 0, 0], [5, 0, 0]])
    true = np.array([[0.0, 0, 0.05], [0, 0, 9], [0, 9, 0], [9, 0, 0]])
    # precision 1/2, recall 1/4
    assert f_score(predicted, true, 0.1) == pytest.approx(2 * 0.5 * 0.25 / 0.75)


def test_f_score_counts_a_distance_of_exactly_tau_as_no_hit():
    two, one = np.array([[0.0, 0, 0], [0, 0, 0.5]]), np.array([[0.0, 0, 0]])
    assert f_score(two, one, 0.5) == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert f_score(one, two, 0.5) == pytest.approx(2 / 3)


@given(CLOUDS, CLOUDS)
@settings(max_examples=60, deadline=None)
def test_metrics_equal_their_definition_by_brute_force(a, b):
    distances = distance_matrix(a, b)
    forward, backward = distances.min(1), distances.min(0)
    scores = scores_of(metrics_at((0.1, 0.05, 0.01)), of_clouds(a, b))
    expected = (forward**2).mean() + (backward**2).mean()
    assert scores["cd_sq_sum"] == pytest.approx(expected, abs=1e-12)
    expected = (forward.mean() + backward.mean()) / 2
    assert scores["cd_l2_mean"] == pytest.approx(expected, abs=1e-12)
    assert scores["cd_sq_sum"] == cd_sq_sum(a, b)
    assert scores["cd_l2_mean"] == cd_l2_mean(a, b)
    for tau, name in ((0.1, "f_score_0_1"), (0.05, "f_score_0_05"), (0.01, "f_score_0_01")):
        assert scores[name] == f_score(a, b, tau)


@given(CLOUDS, CLOUDS, st.floats(1e-3, 3))
@settings(max_examples=60, deadline=None)
def test_metrics_are_symmetric_and_in_range(a, b, tau):
    assert cd_sq_sum(a, b) == pytest.approx(cd_sq_sum(b, a))
    assert cd_l2_mean(a, b) == pytest.approx(cd_l2_mean(b, a))
    assert f_score(a, b, tau) == pytest.approx(f_score(b, a, tau))
    assert 0 <= f_score(a, b, tau) <= f_score(a, b, 2 * tau) + 1e-12 <= 1 + 1e-12
    assert 0 <= box_iou(a, b) == pytest.approx(box_iou(b, a))


@given(CLOUDS)
@settings(max_examples=30, deadline=None)
def test_cloud_against_itself_is_perfect(a):
    assert cd_sq_sum(a, a) == 0.0
    assert f_score(a, a, 1e-6) == 1.0
    assert box_iou(a, a) == pytest.approx(1.0)


def test_doubling_the_space_doubles_and_quadruples_the_distances():
    rng = rng_for(0, "scale")
    a, b = rng.normal(size=(2, 50, 3))
    assert cd_sq_sum(2 * a, 2 * b) == pytest.approx(4 * cd_sq_sum(a, b))
    assert cd_l2_mean(2 * a, 2 * b) == pytest.approx(2 * cd_l2_mean(a, b))
    assert box_iou(2 * a, 2 * b) == pytest.approx(box_iou(a, b))


def test_nearest_distances_of_large_clouds_equal_brute_force():
    rng = rng_for(0, "large")
    a, b = rng.normal(size=(700, 3)), rng.normal(size=(300, 3))
    distances = distance_matrix(a, b)
    forward, backward = nearest_distances(a, b)
    np.testing.assert_allclose(forward, distances.min(1), rtol=1e-12)
    np.testing.assert_allclose(backward, distances.min(0), rtol=1e-12)


def test_box_iou_of_boxes_that_share_a_corner_cube_is_known():
    unit = np.array([[0.0, 0, 0], [1, 1, 1]])
    assert box_iou(unit, unit + 0.5) == pytest.approx(0.125 / 1.875)
    assert box_iou(unit, unit + np.array([1.0, 0, 0])) == 0.0
    assert box_iou(unit, 2 * unit) == pytest.approx(1 / 8)


def test_box_iou_of_flat_thing_with_itself_is_one_and_with_a_solid_almost_zero():
    flat = np.array([[0.0, 0, 0], [1, 1, 0]])
    assert box_iou(flat, flat) == pytest.approx(1.0)
    assert box_iou(flat, np.array([[0.0, 0, 0], [1, 1, 1]])) < 1e-5


@given(GRIDS, GRIDS)
@settings(max_examples=60, deadline=None)
def test_voxel_iou_equals_sets_of_voxels(a, b):
    first, second = ({tuple(v) for v in np.argwhere(grid)} for grid in (a, b))
    if not first | second:
        with pytest.raises(RowError, match="both empty"):
            voxel_iou(a, b)
        return
    assert voxel_iou(a, b) == len(first & second) / len(first | second) == voxel_iou(b, a)


def test_voxel_iou_of_empty_prediction_is_zero():
    true = np.zeros((4, 4, 4), bool)
    true[1, 2, 3] = True
    assert voxel_iou(np.zeros_like(true), true) == 0.0


def test_voxel_grids_of_two_resolutions_are_refused():
    with pytest.raises(RowError, match=r"\(4, 4, 4\) and \(8, 8, 8\)"):
        voxel_iou(np.ones((4, 4, 4), bool), np.ones((8, 8, 8), bool))


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros((4, 2)), np.full((3, 3), np.inf)])
@pytest.mark.parametrize("metric", [cd_sq_sum, cd_l2_mean, box_iou])
def test_cloud_that_is_none_is_refused_in_words(metric, bad):
    with pytest.raises(RowError, match=r"the (first|second) cloud"):
        metric(bad, np.zeros((1, 3)))
    with pytest.raises(RowError, match="the second cloud"):
        metric(np.zeros((1, 3)), bad)


@given(CLOUDS, CLOUDS, st.integers(0, 1000), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_moving_both_clouds_changes_nothing_and_growing_both_scales_the_distances(a, b, seed, grow):
    turn, shift = Rotation.random(random_state=seed).as_matrix(), np.array([3.0, -2.0, 1.0])
    moved_a, moved_b = grow * a @ turn.T + shift, grow * b @ turn.T + shift
    assert cd_l2_mean(moved_a, moved_b) == pytest.approx(grow * cd_l2_mean(a, b), abs=1e-9)
    assert cd_sq_sum(moved_a, moved_b) == pytest.approx(grow**2 * cd_sq_sum(a, b), abs=1e-9)


@given(CLOUDS, CLOUDS)
@settings(max_examples=30, deadline=None)
def test_box_iou_is_symmetric_and_bears_shift_and_growth(a, b):
    expected = box_iou(a, b)
    assert box_iou(b, a) == pytest.approx(expected)
    sides = np.ptp(a, axis=0).min(), np.ptp(b, axis=0).min()
    if min(sides) > 1e-3:  # thinner boxes are widened to a fixed side
        assert box_iou(2 * a + 1, 2 * b + 1) == pytest.approx(expected, abs=1e-6)
