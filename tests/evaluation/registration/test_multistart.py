"""Multi-start registration finds known poses, whatever starts, threads and batches are used."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datagen.core.frames import transform_points
from datagen.errors import ConfigError
from datagen.evaluation import MultistartOptions, multistart_icp, multistart_icp_batch
from datagen.evaluation.formulas import nearest_distances
from datagen.evaluation.registration import batched_icp
from datagen.evaluation.registration.fine_icp import (
    fine_icp,
    fine_surface,
    median_gap,
    truncated_squares,
)
from datagen.evaluation.registration.similarity import scale_of, similarity
from datagen.evaluation.registration.trimmed import trimmed_chamfer
from tests.evaluation.registration.clouds import SOURCE, TARGET, chair, rotated

ALONE = MultistartOptions(with_seed_candidates=False)


@pytest.mark.parametrize("options", [ALONE, MultistartOptions()], ids=["alone", "pooled"])
@pytest.mark.parametrize("yaw_deg", [10, 133, 250])
def test_rotated_scaled_and_shifted_cloud_comes_back(yaw_deg, options):
    moved, back = rotated(SOURCE, yaw_deg, 1.2, (0.3, -0.2, 0.1))
    found = multistart_icp(moved, TARGET, options=options)
    assert found.phase == "fine"
    np.testing.assert_allclose(found.transform, back, atol=0.01)


def test_cut_source_keeps_its_scale():
    # One-directional ICP shrinks or grows here: a fifth of the target has no partner.
    cut = SOURCE[SOURCE[:, 0] < np.quantile(SOURCE[:, 0], 0.8)]
    moved, back = rotated(cut, 75, 0.85, (0.1, 0.2, 0))
    found = multistart_icp(moved, TARGET, options=ALONE)
    assert scale_of(found.transform) == pytest.approx(scale_of(back), rel=0.01)


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_far_scale_is_found_since_starts_match_size(scale):
    moved, back = rotated(SOURCE, 200, scale)
    found = multistart_icp(moved, TARGET, options=ALONE)
    assert scale_of(found.transform) == pytest.approx(scale_of(back), rel=0.02)


def test_any_orientation_is_found_with_turns_over_so3():
    turn = Rotation.from_rotvec([1.2, -2.0, 0.7]).as_matrix()
    pose = similarity(1.1, turn, np.array([0.1, 0, 0.2]))
    options = MultistartOptions(rotations="all", with_seed_candidates=False)
    found = multistart_icp(transform_points(pose, SOURCE), TARGET, options=options)
    np.testing.assert_allclose(found.transform, np.linalg.inv(pose), atol=0.02)


def test_without_scale_the_result_is_rigid():
    moved, _ = rotated(SOURCE, 30, 1.1)
    found = multistart_icp(moved, TARGET, with_scale=False, options=ALONE)
    assert scale_of(found.transform) == pytest.approx(1.0)


@pytest.mark.parametrize("options", [ALONE, MultistartOptions()], ids=["alone", "pooled"])
def test_result_is_the_same_bits_again_whatever_the_number_of_threads(options):
    moved, _ = rotated(SOURCE, 70, 0.9)
    threads, results = torch.get_num_threads(), []
    for num in (1, 2, 2):
        torch.set_num_threads(num)
        results.append(multistart_icp(moved, TARGET, options=options).transform.tobytes())
    torch.set_num_threads(threads)
    assert len(set(results)) == 1


@pytest.mark.parametrize("at_once", [batched_icp.DISTANCES_AT_ONCE, 5 * 96 * 96])
def test_pairs_in_one_batch_come_out_as_each_alone(monkeypatch, at_once):
    options = MultistartOptions(
        with_seed_candidates=False, num_starts=6, rounds=((96, 5, 0.4), (200, 4, 1.0))
    )
    pairs = [
        (rotated(SOURCE, 20, 1.1)[0], TARGET),
        (chair(60, 3), chair(150, 4)),  # too few points for the rounds: a batch of its own
        (rotated(TARGET, 200, 0.8, (0.3, 0, 0))[0], SOURCE),
        (SOURCE[SOURCE[:, 0] < 0.1], TARGET),
    ]
    alone = [multistart_icp(*pair, options=options) for pair in pairs]
    monkeypatch.setattr(batched_icp, "DISTANCES_AT_ONCE", at_once)
    together = multistart_icp_batch(pairs, options=options)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.transform, other.transform)
        assert (one.fitness, one.rmse, one.phase) == (other.fitness, other.rmse, other.phase)


def test_batch_of_no_pairs_is_empty():
    assert multistart_icp_batch([], options=ALONE) == []


def test_scores_of_the_batch_are_the_truncated_squares():
    moves = np.stack([np.eye(4), similarity(1.1, np.eye(3), np.array([0.1, 0, 0]))])
    source, target = SOURCE[:200], TARGET[:150]
    expected = []
    for move in moves:
        moved = transform_points(move, source)
        gaps = nearest_distances(moved, target)
        expected.append(sum(float(np.mean(np.minimum(gap, 0.08) ** 2)) for gap in gaps))
    clouds = source[None], target[None], np.zeros(2, int)
    scores = batched_icp.score(moves, *clouds, limit=0.08, device="cpu")
    np.testing.assert_allclose(scores, expected, rtol=1e-3)


def test_true_pose_is_kept_where_one_of_two_objects_is_missing():
    # Trimmed ICP that keeps four fifths of the pairs grows the source over both.
    target = 0.4 * np.concatenate([TARGET, TARGET + [0, 1.5, 0]])
    clouds = [batched_icp.farthest_points(points, 256)[None] for points in (0.4 * SOURCE, target)]
    widths = np.geomspace(0.15, 0.05, 20)
    [found] = batched_icp.refine(
        np.eye(4)[None], *clouds, np.zeros(1, int), widths=widths, with_scale=True, device="cpu"
    )
    np.testing.assert_allclose(found, np.eye(4), atol=0.05)


def test_farthest_points_are_nested_and_cover_better_than_a_draw():
    many, few = batched_icp.farthest_points(TARGET, 100), batched_icp.farthest_points(TARGET, 40)
    np.testing.assert_array_equal(many[:40], few)

    def gap(points):
        return np.linalg.norm(TARGET[:, None] - points, axis=2).min(axis=1).max()

    assert gap(few) < gap(TARGET[:40])


def test_fine_stage_repairs_scale_that_it_starts_wrong_with():
    surfaces = [fine_surface(points, most=4000) for points in (SOURCE, TARGET)]
    wrong = similarity(1.05, np.eye(3), np.array([0.01, 0, 0]))
    numbers = {"distance": 0.05, "tukey": 0.075, "iterations": 30}
    free = fine_icp(wrong, *surfaces, **numbers, with_scale=True)
    held = fine_icp(wrong, *surfaces, **numbers, with_scale=False)
    assert scale_of(free) == pytest.approx(1.0, abs=0.003)
    assert scale_of(held) == pytest.approx(1.05)


def test_few_points_and_flat_clouds_are_aligned_all_the_same():
    flat = chair(300, 2) * [1, 1, 0]
    moved, _ = rotated(flat, 90)
    found = multistart_icp(moved, flat, options=ALONE)
    assert trimmed_chamfer(transform_points(found.transform, moved), flat) < 0.01


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="widths and limit must be"):
        MultistartOptions(widths=(0.0, 0.05))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_finds_the_same_poses_in_one_batch():
    made = [rotated(SOURCE, yaw, 1.2, (0.3, -0.2, 0.1)) for yaw in (10, 133, 250)]
    options = MultistartOptions(with_seed_candidates=False, device="cuda")
    found = multistart_icp_batch([(moved, TARGET) for moved, _ in made], options=options)
    for registration, (_, back) in zip(found, made, strict=True):
        np.testing.assert_allclose(registration.transform, back, atol=0.01)


def test_truncated_squares_count_no_distance_beyond_a_limit():
    line = np.column_stack([np.arange(20.0), np.zeros(20), np.zeros(20)])
    off = line.copy()
    off[:10] += [0, 0.1, 0]
    off[10:] += [0, 5.0, 0]  # 0.1 off, and far off
    surfaces = [fine_surface(points, most=100) for points in (line, off)]
    assert truncated_squares(np.eye(4), *surfaces, 0.2) == pytest.approx(0.1**2 + 0.2**2)
    assert truncated_squares(np.eye(4), *surfaces, 0.05) == pytest.approx(2 * 0.05**2)


def test_median_gap_is_that_of_the_surfaces_and_not_of_their_points():
    rng = np.random.default_rng(0)
    first, again = (rng.uniform(-0.5, 0.5, (3000, 3)) * [1, 1, 0] for _ in range(2))
    surfaces = [fine_surface(points, most=3000) for points in (first, again)]
    assert surfaces[0].spacing == pytest.approx(np.sqrt(np.log(2) / np.pi / 3000), rel=0.05)
    for gap in (0.0, 0.03):
        lifted = similarity(1.0, np.eye(3), np.array([0, 0, gap]))
        assert median_gap(lifted, *surfaces, 0.1) == pytest.approx(gap, abs=0.003)
