import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datagen.core.frames import transform_points
from datagen.errors import ConfigError
from datagen.evaluation import MultistartOptions, batched_icp, multistart_icp
from datagen.evaluation.fine_icp import fine_icp, fine_surface, truncated_squares
from datagen.evaluation.similarity import scale_of, similarity
from datagen.evaluation.trimmed import trimmed_chamfer
from tests.evaluation.test_registration import SOURCE, TARGET, chair, turned

ALONE = MultistartOptions(with_seed_candidates=False)


@pytest.mark.parametrize("options", [ALONE, MultistartOptions()], ids=["alone", "pooled"])
@pytest.mark.parametrize("yaw_deg", [10, 133, 250])
def test_turned_scaled_and_shifted_cloud_comes_back(yaw_deg, options):
    moved, back = turned(SOURCE, yaw_deg, 1.2, (0.3, -0.2, 0.1))
    found = multistart_icp(moved, TARGET, options=options)
    assert found.stage == "fine"
    np.testing.assert_allclose(found.transform, back, atol=0.01)


def test_cut_source_keeps_its_scale():
    # One-directional ICP shrinks or grows here: a fifth of the target has no partner.
    cut = SOURCE[SOURCE[:, 0] < np.quantile(SOURCE[:, 0], 0.8)]
    moved, back = turned(cut, 75, 0.85, (0.1, 0.2, 0))
    found = multistart_icp(moved, TARGET, options=ALONE)
    assert scale_of(found.transform) == pytest.approx(scale_of(back), rel=0.01)


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_far_scale_is_found_since_starts_match_size(scale):
    moved, back = turned(SOURCE, 200, scale)
    found = multistart_icp(moved, TARGET, options=ALONE)
    assert scale_of(found.transform) == pytest.approx(scale_of(back), rel=0.02)


def test_any_orientation_is_found_with_turns_over_so3():
    turn = Rotation.from_rotvec([1.2, -2.0, 0.7]).as_matrix()
    pose = similarity(1.1, turn, np.array([0.1, 0, 0.2]))
    options = MultistartOptions(turns="all", with_seed_candidates=False)
    found = multistart_icp(transform_points(pose, SOURCE), TARGET, options=options)
    np.testing.assert_allclose(found.transform, np.linalg.inv(pose), atol=0.02)


def test_without_scale_the_result_is_rigid():
    moved, _ = turned(SOURCE, 30, 1.1)
    found = multistart_icp(moved, TARGET, with_scale=False, options=ALONE)
    assert scale_of(found.transform) == pytest.approx(1.0)


def test_result_is_the_same_bits_again_whatever_the_number_of_threads():
    moved, _ = turned(SOURCE, 70, 0.9)
    threads, results = torch.get_num_threads(), []
    for num in (1, 2, 2):
        torch.set_num_threads(num)
        results.append(multistart_icp(moved, TARGET, options=ALONE).transform.tobytes())
    torch.set_num_threads(threads)
    assert len(set(results)) == 1


def test_scores_of_the_batch_are_the_trimmed_chamfer_distances():
    moves = np.stack([np.eye(4), similarity(1.1, np.eye(3), np.array([0.1, 0, 0]))])
    source, target = SOURCE[:200], TARGET[:150]
    expected = [trimmed_chamfer(transform_points(move, source), target) for move in moves]
    scores = batched_icp.score(moves, source, target, trim=0.2, device="cpu")
    np.testing.assert_allclose(scores, expected, atol=1e-4)


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
    moved, _ = turned(flat, 90)
    found = multistart_icp(moved, flat, options=ALONE)
    assert trimmed_chamfer(transform_points(found.transform, moved), flat) < 0.01


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="keep must be"):
        MultistartOptions(keep=0.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_finds_the_same_pose():
    moved, back = turned(SOURCE, 133, 1.2, (0.3, -0.2, 0.1))
    options = MultistartOptions(with_seed_candidates=False, device="cuda")
    np.testing.assert_allclose(
        multistart_icp(moved, TARGET, options=options).transform, back, atol=0.01
    )


def test_truncated_squares_count_no_distance_beyond_a_limit():
    line = np.column_stack([np.arange(20.0), np.zeros(20), np.zeros(20)])
    off = line.copy()
    off[:10] += [0, 0.1, 0]
    off[10:] += [0, 5.0, 0]  # 0.1 off, and far off
    surfaces = [fine_surface(points, most=100) for points in (line, off)]
    near, far = truncated_squares(np.eye(4), *surfaces, (0.2, 0.05))
    assert near == pytest.approx(2 * (0.1**2 + 0.2**2) / 2)
    assert far == pytest.approx(2 * 0.05**2)
