"""Scores of whole scenes whose instances are moved, missing or damaged in known ways."""

import math

import numpy as np
import pytest
import trimesh

from datagen.errors import RowError
from datagen.evaluation import WHOLE_SCENE, SceneGeometry, score_scene
from datagen.evaluation.tables import SCORES

POINTS = 2000


def box(extents: tuple[float, float, float], center: tuple[float, float, float]):
    mesh = trimesh.creation.box(extents)
    return np.asarray(mesh.vertices) + center, np.asarray(mesh.faces)


def cube(center: tuple[float, float, float], side: float = 0.2):
    return box((side, side, side), center)


TRUE = SceneGeometry([cube((-0.3, 0, 0)), cube((0.3, 0, 0)), box((0.1, 0.1, 0.4), (0, 0.3, 0))])


def test_truth_against_itself_scores_at_its_sampling_floor():
    scores = score_scene(TRUE, TRUE, points_per_object=POINTS)
    assert scores.missing == ()
    for thing in (scores.scene, *scores.objects):
        assert thing.box_iou == pytest.approx(1.0)
        assert thing.f_score_0_1 > 0.9  # 2,000 points on a cube of side 2 are some 0.05 apart
        assert thing.cd_sq_sum == pytest.approx(thing.cd_sq_sum_floor, rel=0.1)
        assert thing.cd_sq_sum > 0  # other samples, not the same points


def test_scene_distances_are_measured_in_twice_the_canonical_frame():
    # Two far sheets of 0.2 × 0.2, moved 0.05 along their normal: every point is 0.05 off,
    # 0.1 in [−1, 1]. In-plane spacing adds a little.
    sheet = (np.array([[0.0, 0, 0], [0.2, 0, 0], [0, 0.2, 0]]), np.array([[0, 1, 2]]))
    moved = (sheet[0] + [0, 0, 0.05], sheet[1])
    scores = score_scene(SceneGeometry([moved]), SceneGeometry([sheet]), points_per_object=POINTS)
    assert scores.scene.cd_l2_mean == pytest.approx(0.1, rel=0.01)
    assert scores.scene.cd_sq_sum == pytest.approx(2 * 0.1**2, rel=0.02)
    # The object's longest side, 0.2, becomes 2: a factor of 10, not of 2.
    assert scores.objects[0].cd_l2_mean == pytest.approx(0.5, rel=0.01)


def test_object_scores_divide_out_the_true_size_and_nothing_else():
    small = SceneGeometry([cube((0.1, 0, 0), 0.05)])
    large = SceneGeometry([cube((0.2, 0, 0), 0.1)])
    shifted_small = SceneGeometry([cube((0.11, 0, 0), 0.05)])
    shifted_large = SceneGeometry([cube((0.22, 0, 0), 0.1)])
    first = score_scene(shifted_small, small, points_per_object=POINTS).objects[0]
    second = score_scene(shifted_large, large, points_per_object=POINTS).objects[0]
    assert first.cd_l2_mean == pytest.approx(second.cd_l2_mean)
    assert first.cd_l2_mean > 0.05  # a wrong position costs


def test_stretched_object_costs_although_its_box_fits_on_two_axes():
    right = SceneGeometry([box((0.2, 0.2, 0.2), (0, 0, 0))])
    long = SceneGeometry([box((0.2, 0.2, 0.4), (0, 0, 0))])
    scores = score_scene(long, right, points_per_object=POINTS).objects[0]
    assert scores.box_iou == pytest.approx(0.5)
    assert scores.cd_l2_mean > 0.1


def test_missing_instance_counts_as_worst_and_is_listed():
    predicted = SceneGeometry([TRUE.meshes[0], None, TRUE.meshes[2]])
    scores = score_scene(predicted, TRUE, points_per_object=POINTS)
    assert scores.missing == (1,)
    missed = scores.objects[1]
    assert (missed.f_score_0_1, missed.box_iou) == (0.0, 0.0)
    assert math.isnan(missed.cd_sq_sum) and math.isnan(missed.cd_l2_mean)
    assert missed.cd_sq_sum_floor > 0
    # Precision 1, recall 2/3: the objects weigh alike although one is smaller.
    assert scores.scene.f_score_0_05 == pytest.approx(2 * (2 / 3) / (5 / 3), abs=0.01)


def test_surface_without_faces_counts_as_missing():
    empty = (np.zeros((0, 3)), np.zeros((0, 3), int))
    predicted = SceneGeometry([empty, *TRUE.meshes[1:]])
    assert score_scene(predicted, TRUE, points_per_object=POINTS).missing == (0,)


def test_scene_with_nothing_predicted_is_scored_and_not_skipped():
    scores = score_scene(SceneGeometry([None] * 3), TRUE, points_per_object=POINTS)
    assert scores.missing == (0, 1, 2)
    assert (scores.scene.f_score_0_1, scores.scene.box_iou) == (0.0, 0.0)
    assert math.isnan(scores.scene.cd_sq_sum)


def test_swapped_instances_keep_the_scene_score_and_lose_the_object_scores():
    swapped = SceneGeometry([TRUE.meshes[1], TRUE.meshes[0], TRUE.meshes[2]])
    scores = score_scene(swapped, TRUE, points_per_object=POINTS)
    assert scores.scene.f_score_0_1 == 1.0
    assert scores.objects[0].f_score_0_1 == 0.0
    assert scores.objects[2].f_score_0_1 == 1.0


def test_voxel_ious_are_taken_an_instance_and_over_their_union():
    grids = np.zeros((2, 4, 4, 4), bool)
    grids[0, 0, 0, :2] = True  # 2 voxels
    grids[1, 3, 3, :4] = True  # 4 voxels
    predicted = grids.copy()
    predicted[0, 0, 0, 1] = False  # 1 of 2
    meshes = TRUE.meshes[:2]
    scores = score_scene(
        SceneGeometry(meshes, predicted), SceneGeometry(meshes, grids), points_per_object=POINTS
    )
    assert [thing.voxel_iou for thing in scores.objects] == [0.5, 1.0]
    assert scores.scene.voxel_iou == pytest.approx(5 / 6)


def test_voxel_iou_is_unknown_without_voxels():
    assert math.isnan(score_scene(TRUE, TRUE, points_per_object=POINTS).scene.voxel_iou)


def test_rows_have_the_columns_of_scores_and_the_scene_comes_first():
    rows = score_scene(TRUE, TRUE, points_per_object=POINTS).rows(
        layout_id=7, view_index=3, split="val", method="model"
    )
    assert [row["placement_index"] for row in rows] == [WHOLE_SCENE, 0, 1, 2]
    for row in rows:
        own = {name for name in SCORES.schema.names if not name.startswith(("aligned_", "num_"))}
        assert set(row) == own
        assert (row["layout_id"], row["view_index"], row["method"]) == (7, 3, "model")


def test_scores_are_the_same_again_and_others_with_another_seed():
    first, again, other = (
        score_scene(TRUE, TRUE, points_per_object=POINTS, seed=seed).scene.cd_sq_sum
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("predicted", "true", "words"),
    [
        (SceneGeometry(TRUE.meshes[:2]), TRUE, "2 predicted and 3 true"),
        (SceneGeometry([]), SceneGeometry([]), "0 predicted and 0 true"),
        (TRUE, SceneGeometry([None, *TRUE.meshes[1:]]), r"true instances \[0\] have no mesh"),
        (
            SceneGeometry(TRUE.meshes, np.zeros((4, 2, 2, 2), bool)),
            TRUE,
            "4 predicted voxel grids for 3",
        ),
    ],
)
def test_scenes_that_do_not_belong_together_are_refused_in_words(predicted, true, words):
    with pytest.raises(RowError, match=words):
        score_scene(predicted, true, points_per_object=POINTS)
