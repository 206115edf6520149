"""Each protocol against an independent twin, and what known damage implies."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from datagen.core.frames import transform_points
from datagen.core.seeding import rng_for
from datagen.errors import ConfigError, RowError
from datagen.evaluation import (
    PROTOCOLS,
    AlignOptions,
    Protocol,
    box_iou,
    sample_surface,
    score_protocol,
)
from datagen.evaluation.formulas import self_overlap
from datagen.evaluation.registration.similarity import similarity

POINTS = 1500
FEW = {name: replace(protocol, points=POINTS) for name, protocol in PROTOCOLS.items()}
IN_PLACE = replace(FEW["iscene"], scene_aligner="none", object_aligner="none")


def box(extents, center):
    mesh = trimesh.creation.box(extents)
    return np.asarray(mesh.vertices) + center, np.asarray(mesh.faces)


TRUE = [
    box((0.3, 0.2, 0.3), (-0.32, -0.1, -0.1)),
    box((0.1, 0.3, 0.2), (0.3, 0.1, -0.15)),
    box((0.1, 0.1, 0.5), (0.0, 0.35, 0.0)),
    box((0.35, 0.15, 0.1), (0.1, -0.35, -0.2)),
]


def moved(meshes, transform):
    return [(transform_points(transform, v), f) for v, f in meshes]


def cloud(meshes, side):
    return np.concatenate(
        [sample_surface(m, POINTS, rng_for(0, "protocol", side, i)) for i, m in enumerate(meshes)]
    )


@pytest.mark.parametrize("name", ["iscene", "partcrafter", "gen3dsr"])
def test_truth_as_prediction_scores_at_its_floor(name):
    scores = score_protocol(TRUE, TRUE, FEW[name])
    assert scores.scene["cd"] == pytest.approx(scores.scene["cd_floor"], rel=0.5)
    assert scores.scene["f_score_0_1"] > 0.99
    assert scores.scene["f_score_0_1"] == pytest.approx(scores.scene["f_score_0_1_floor"], abs=0.01)
    for thing in scores.objects if FEW[name].object_space else ():
        assert thing["cd"] == pytest.approx(thing["cd_floor"], rel=0.5)
    assert scores.matching.partners == (0, 1, 2, 3)


@pytest.mark.slow
def test_truth_as_prediction_is_near_its_floor_after_filterreg():
    # Point-to-point on samples some 0.05 apart leaves a rotation of a degree or two.
    scores = score_protocol(TRUE, TRUE, FEW["scenegen"])
    assert scores.scene["cd"] < 4 * scores.scene["cd_floor"]
    assert scores.scene["f_score_0_1"] > 0.99


def test_midis_published_alignment_turns_the_truth_away_from_itself():
    scores = score_protocol(TRUE, TRUE, FEW["midi"])
    assert scores.scene["cd"] > 10 * scores.scene["cd_floor"]
    assert scores.mean("box_iou") == pytest.approx(1.0)  # taken before the alignment


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("cd_sq_sum", lambda d: (d.min(1) ** 2).mean() + (d.min(0) ** 2).mean()),
        ("cd_l2_sum", lambda d: d.min(1).mean() + d.min(0).mean()),
        ("cd_l2_mean", lambda d: (d.min(1).mean() + d.min(0).mean()) / 2),
    ],
)
def test_each_chamfer_distance_is_its_formula_by_brute_force(name, formula):
    shifted = moved(TRUE, similarity(1.0, np.eye(3), np.array([0.03, 0.02, 0.01])))
    scores = score_protocol(shifted, TRUE, replace(IN_PLACE, chamfer=name))
    assert scores.chamfer == name
    other = score_protocol(shifted, TRUE, replace(IN_PLACE, chamfer="cd_sq_sum"))
    assert scores.scene["cd_sq_sum"] == other.scene["cd"]
    distances = cdist(2 * cloud(shifted, "predicted"), 2 * cloud(TRUE, "true"))
    assert scores.scene["cd"] == pytest.approx(formula(distances))
    precision, recall = (distances.min(1) < 0.05).mean(), (distances.min(0) < 0.05).mean()
    assert scores.scene["precision_0_05"] == pytest.approx(precision)
    assert scores.scene["recall_0_05"] == pytest.approx(recall)
    expected = 2 * precision * recall / (precision + recall)
    assert scores.scene["f_score_0_05"] == pytest.approx(expected)


def test_objects_stretched_by_their_own_boxes_hide_wrong_proportions_and_true_boxes_do_not():
    stretched = [(v * [1, 1, 1.8], f) for v, f in TRUE[:1]]
    dense = {"scene_aligner": "none", "object_aligner": "none", "points": 8000}
    hidden = score_protocol(stretched, TRUE[:1], replace(FEW["scenegen"], **dense))
    seen = score_protocol(stretched, TRUE[:1], replace(IN_PLACE, **dense))
    assert hidden.mean("f_score_0_1") > 0.99
    assert seen.mean("f_score_0_1") < 0.9


def test_metres_stay_metres_for_gen3dsr_and_thresholds_with_them():
    metres = moved(TRUE, similarity(4.0, np.eye(3), np.zeros(3)))
    shifted = moved(metres, similarity(1.0, np.eye(3), np.array([0, 0, 0.5])))
    scores = score_protocol(shifted, metres, FEW["gen3dsr"])
    assert 0.05 < scores.scene["cd"] < 0.5  # one factor of 4 more than in the unit box
    assert set(scores.objects[0]) == set()
    assert scores.scene["f_score_0_001"] < 0.01


def test_partcrafter_overlap_is_of_the_parts_with_each_other():
    halves = [box((1, 1, 1), (-0.25, 0, 0)), box((1, 1, 1), (0.25, 0, 0))]
    assert self_overlap(halves) == pytest.approx(1 / 3, abs=0.05)
    assert self_overlap([box((0.5, 1, 1), (x, 0, 0)) for x in (-0.5, 0.5)]) == 0.0
    assert self_overlap(halves[:1]) == 0.0


def test_parts_in_any_order_are_matched_for_partcrafter():
    scores = score_protocol(TRUE[::-1], TRUE, FEW["partcrafter"])
    assert scores.matching.partners == (3, 2, 1, 0)
    assert scores.scene["self_overlap"] == 0.0


def test_scenegen_forgives_any_scale_since_both_sides_fill_their_boxes():
    smaller = moved(TRUE, similarity(0.4, np.eye(3), np.full(3, 0.1)))
    protocol = replace(FEW["scenegen"], scene_aligner="none", object_aligner="none")
    assert score_protocol(smaller, TRUE, protocol).scene["f_score_0_1"] > 0.99


def test_ranges_of_the_method_are_brought_into_the_truths():
    wide = moved(TRUE, similarity(2.01, np.eye(3), np.zeros(3)))
    align = AlignOptions(source_range=(-1.005, 1.005))
    scores = score_protocol(wide, TRUE, IN_PLACE, align=align)
    assert scores.mean("box_iou") == pytest.approx(1.0)


def test_damage_by_yaw_and_scale_is_undone_and_the_rest_costs_what_it_should():
    """End to end: one global pose to undo, one object moved, one missing, noise in the vertices."""
    rng = np.random.default_rng(0)
    yaw = Rotation.from_rotvec([0, 0, np.radians(37)]).as_matrix()
    pose = similarity(1.3, yaw, np.array([0.1, -0.05, 0.02]))
    damaged = [TRUE[0], TRUE[1], (TRUE[2][0] + [0.2, 0.0, 0.0], TRUE[2][1]), None]
    noisy = [
        None if m is None else (m[0] + rng.normal(scale=0.001, size=m[0].shape), m[1])
        for m in damaged
    ]
    predicted = [None if m is None else moved([m], pose)[0] for m in noisy]
    options = AlignOptions(align="multistart")
    unaligned = score_protocol(predicted, TRUE, IN_PLACE)
    scores = score_protocol(predicted, TRUE, FEW["iscene"], align=options)

    back = np.linalg.inv(pose)
    found = np.diag([0.5, 0.5, 0.5, 1]) @ scores.transform @ np.diag([2.0, 2, 2, 1])
    np.testing.assert_allclose(found, back, atol=0.03)
    # Of three predicted objects two lie where they should, of four true ones two are found; 0.2 is
    # 0.4 in [−1, 1], four times the threshold. Points are equally many an object.
    assert scores.scene["precision_0_1"] == pytest.approx(2 / 3, abs=0.04)
    assert scores.scene["recall_0_1"] == pytest.approx(2 / 4, abs=0.04)
    assert scores.scene["f_score_0_1"] == pytest.approx(4 / 7, abs=0.04)
    assert unaligned.scene["f_score_0_1"] < 0.4
    assert scores.matching.missing == (3,)
    overlaps = [thing["box_iou"] for thing in scores.objects]
    assert overlaps[0] > 0.8 and overlaps[1] > 0.75
    assert overlaps[2] == 0.0  # moved by twice its width
    assert overlaps[3] == 0.0 and scores.objects[3]["f_score_0_1"] == 0.0
    assert np.isnan(scores.objects[3]["cd"])
    # Objects are registered one by one: the moved one has the right shape.
    assert scores.objects[2]["f_score_0_1"] > 0.9
    assert scores.mean("f_score_0_1") == pytest.approx(3 / 4, abs=0.05)
    boxes = [np.concatenate([v for v, _ in side]) for side in (damaged[:3], TRUE)]
    assert scores.scene["box_iou"] == pytest.approx(box_iou(*boxes), abs=0.1)


def test_unmatched_and_duplicate_instances_are_counted_and_cost_precision():
    scores = score_protocol(
        [*TRUE, TRUE[0], box((0.1, 0.1, 0.1), (0.45, 0.45, 0.45))], TRUE, IN_PLACE
    )
    assert scores.matching.unmatched == (4, 5)
    assert scores.scene["precision_0_1"] == pytest.approx(5 / 6, abs=0.02)
    assert scores.scene["recall_0_1"] == 1.0


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_scene_with_nothing_predicted_is_scored_as_worst(name):
    empty = np.zeros((0, 3)), np.zeros((0, 3), int)
    scores = score_protocol([None, empty], TRUE, FEW[name])
    assert scores.scene["f_score_0_1"] == 0.0
    assert np.isnan(scores.scene["cd"])
    assert scores.matching.missing == (0, 1, 2, 3)


def test_one_triangle_is_scored():
    triangle = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0.0]]), np.array([[0, 1, 2]])
    scores = score_protocol([triangle], TRUE[:1], IN_PLACE)
    assert 0 <= scores.scene["f_score_0_1"] < 1


def test_what_cannot_be_scored_is_refused_in_words():
    with pytest.raises(ConfigError, match="expected one of iscene, midi"):
        score_protocol(TRUE, TRUE, "best")
    with pytest.raises(RowError, match="0 true instances"):
        score_protocol(TRUE, [], IN_PLACE)
    with pytest.raises(RowError, match="not finite"):
        score_protocol([(TRUE[0][0] * np.nan, TRUE[0][1])], TRUE[:1], IN_PLACE)


def test_own_protocol_says_so():
    assert score_protocol(TRUE, TRUE, Protocol(points=200)).protocol == "custom"
