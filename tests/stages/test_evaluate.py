"""Scores of a workspace's own predictions agree with a comparison of files."""

import numpy as np
import pytest
import trimesh

from datagen.core.frames import transform_points
from datagen.errors import ConfigError, StageError
from datagen.evaluation.scene import SceneGeometry
from datagen.evaluation.tables import SCORES
from datagen.stages import evaluate
from datagen.stages.evaluate import EvaluateScenes, mean_scores


def scene(transform=None, *, without=()):
    meshes = []
    for index, (x, height) in enumerate([(-0.3, 0.2), (0.0, 0.5), (0.35, 0.3)]):
        made = trimesh.creation.box((0.2, 0.15, height))
        made.apply_translation((x, 0.1 * index, height / 2 - 0.4))
        vertices = transform_points(np.eye(4) if transform is None else transform, made.vertices)
        meshes.append(None if index in without else (vertices, np.asarray(made.faces)))
    return SceneGeometry(meshes, None)


def compared(predicted, *, collisions=True, **fields):
    stage = EvaluateScenes(aligned_points=500, **fields)
    return stage._compared(predicted, scene(), collisions=collisions)


def test_rotated_scene_is_scored_as_if_it_had_not_been_rotated():
    pytest.importorskip("open3d")
    turn = trimesh.transformations.rotation_matrix(np.radians(90), [0, 0, 1])
    whole, *objects = compared(scene(turn))
    assert whole["aligned_f_score_0_1"] > 0.99 and whole["aligned_box_iou"] > 0.9
    assert min(row["aligned_box_iou"] for row in objects) > 0.8
    assert (whole["num_predicted"], whole["num_colliding"]) == (3, 0)


def test_without_alignment_only_collisions_are_added():
    into_each_other = SceneGeometry([scene().meshes[0]] * 2 + [scene().meshes[2]], None)
    whole, *objects = compared(into_each_other, align="none")
    assert whole["aligned_f_score_0_1"] is None
    assert [row["num_colliding"] for row in objects] == [1, 1, 0]
    assert whole["num_colliding_at"] == [2] * 7


def test_missing_object_is_no_object_and_scene_without_any_scores_nothing():
    whole, *objects = compared(scene(without=(1,)), align="none")
    assert whole["num_predicted"] == 2 and objects[1]["num_colliding"] is None
    whole, *_ = compared(scene(without=(0, 1, 2)), align="robust")
    assert (whole["num_predicted"], whole["aligned_f_score_0_1"]) == (0, 0.0)


def test_scene_of_many_faces_and_baseline_have_no_collisions():
    for limits in ({"collision_faces": 10}, {"collisions": False}):
        whole, *_ = compared(scene(), align="none", **limits)
        assert whole["num_colliding"] is None and whole["num_colliding_at"] is None


def test_means_have_the_collision_rates_at_every_tolerance():
    empty = dict.fromkeys(SCORES.schema.names)
    row = empty | {"split": "val", "method": "model", "placement_index": -1, "num_predicted": 4}
    [scenes, _] = mean_scores([row | {"num_colliding_at": [4, 2, 2, 1, 0, 0, 0]}])
    assert [at["col_o"] for at in scenes["collisions"]] == [1, 0.5, 0.5, 0.25, 0, 0, 0]
    assert scenes["aligned_f_score_0_1"] is None


def test_absent_package_is_named_before_the_first_scene_with_the_way_out():
    def load():
        raise StageError("open3d cannot be imported.")

    with pytest.raises(StageError, match=r"imported\. Or leave .* --align none"):
        evaluate._require(load, "Or leave the aligned scores out: --align none.")


def test_too_few_points_to_align_are_refused():
    with pytest.raises(ConfigError, match="aligned_points at least 3"):
        EvaluateScenes(aligned_points=2)
