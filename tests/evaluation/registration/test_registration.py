"""Robust ICP: one test a clause, on clouds whose pose is known."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datagen.core.frames import transform_points
from datagen.errors import ConfigError, RowError, StageError
from datagen.evaluation import IcpOptions, robust_icp
from datagen.evaluation.registration import open3d_icp
from datagen.evaluation.registration import robust_icp as registration
from datagen.evaluation.registration.open3d_icp import Match
from datagen.evaluation.registration.similarity import similarity
from datagen.evaluation.registration.trimmed import trimmed_chamfer
from tests.evaluation.registration.clouds import SOURCE, TARGET, rotated


@pytest.mark.parametrize("yaw_deg", [0, 37, 100, 190, 271])
def test_rotated_scaled_and_shifted_cloud_comes_back(yaw_deg):
    moved, back = rotated(SOURCE, yaw_deg, 1.15, (0.2, -0.1, 0.15))
    found = robust_icp(moved, TARGET)
    assert found.phase == "fine"
    np.testing.assert_allclose(found.transform, back, atol=0.02)
    assert trimmed_chamfer(transform_points(found.transform, moved), TARGET) < 0.01


@pytest.mark.parametrize(("up_axis", "axis"), [("x", 0), ("y", 1)])
def test_sweep_turns_about_the_designated_axis(up_axis, axis):
    moved, back = rotated(SOURCE, 130, axis=axis)
    np.testing.assert_allclose(
        robust_icp(moved, TARGET, up_axis=up_axis).transform, back, atol=0.02
    )


def test_without_scale_the_result_is_rigid():
    moved, _ = rotated(SOURCE, 30, 1.1)
    linear = robust_icp(moved, TARGET, with_scale=False).transform[:3, :3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-9)


def test_fitness_and_rmse_do_not_depend_on_the_unit_of_the_clouds():
    moved, _ = rotated(SOURCE, 50, 1.1)
    metres, millimetres = robust_icp(moved, TARGET), robust_icp(1000 * moved, 1000 * TARGET)
    assert millimetres.rmse == pytest.approx(metres.rmse, rel=1e-6)
    assert millimetres.fitness == pytest.approx(metres.fitness)
    np.testing.assert_allclose(
        millimetres.transform[:3, 3], 1000 * metres.transform[:3, 3], rtol=1e-4
    )


def test_result_is_the_same_again_to_a_millionth():
    moved, _ = rotated(SOURCE, 70, 0.9)
    first, again = (robust_icp(moved, TARGET) for _ in range(2))
    np.testing.assert_allclose(first.transform, again.transform, atol=1e-6)


@pytest.mark.parametrize("centre", ["box", "origin", "centroid"])
def test_each_reading_of_the_sweeps_centre_finds_a_turn_about_it(centre):
    moved, back = rotated(SOURCE, 90)
    found = robust_icp(moved, TARGET, options=IcpOptions(sweep_centre=centre))
    np.testing.assert_allclose(found.transform, back, atol=0.02)


def test_invalid_fine_result_falls_back_to_coarse_and_then_to_identity(monkeypatch):
    moved, back = rotated(SOURCE, 40)
    broken = Match(np.full((4, 4), np.nan), 1.0, 0.0)
    monkeypatch.setattr(open3d_icp, "point_to_plane", lambda *args, **kwargs: broken)
    found = robust_icp(moved, TARGET)
    assert found.phase == "coarse"
    np.testing.assert_allclose(found.transform, back, atol=0.05)

    monkeypatch.setattr(registration, "coarse_icp", lambda *args: broken)
    found = robust_icp(moved, TARGET)
    assert found.phase == "identity"
    np.testing.assert_allclose(found.transform, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    ("transform", "valid"),
    [
        (np.eye(4), True),
        (np.full((4, 4), np.nan), False),
        (np.diag([-1.0, 1, 1, 1]), False),
        (np.diag([6.0, 6, 6, 1]), False),
        (np.diag([0.1, 0.1, 0.1, 1]), False),
        (similarity(1.0, np.eye(3), np.array([3.0, 0, 0])), False),
    ],
)
def test_only_finite_proper_near_transforms_are_valid(transform, valid):
    assert registration.is_valid(transform, IcpOptions()) is valid


def test_mirror_is_valid_only_where_reflections_are_allowed():
    mirror = np.diag([-1.0, 1, 1, 1])
    assert registration.is_valid(mirror, IcpOptions(allow_reflection=True))


def test_trimmed_distance_leaves_out_the_worst_share_or_cuts_it_off():
    line = np.column_stack([np.arange(10.0), np.zeros(10), np.zeros(10)])
    with_outlier = line.copy()
    with_outlier[9] = (9, 5, 0)  # 5 from (9, 0, 0); that one's nearest is 1 away
    assert trimmed_chamfer(line, with_outlier, trim=0.2) == 0.0
    assert trimmed_chamfer(line, with_outlier, trim=0.0) == pytest.approx((0.1 + 0.5) / 2)
    cut = trimmed_chamfer(line, with_outlier, trim=2.0, trim_as="distance")
    assert cut == pytest.approx((0.1 + 0.2) / 2)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((2, 3)), "at least three"),
        (np.zeros((5, 2)), r"shape \(5, 2\)"),
        (np.full((5, 3), np.nan), "5 that are not finite"),
        (np.ones((5, 3)), "without extent"),
    ],
)
def test_clouds_without_a_pose_are_refused_in_words(points, words):
    with pytest.raises(RowError, match=words):
        robust_icp(points, TARGET)


def test_unknown_up_axis_is_refused():
    with pytest.raises(ConfigError, match="up_axis is 'up'"):
        robust_icp(SOURCE, TARGET, up_axis="up")


def test_missing_open3d_names_the_system_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(StageError, match=r"libusb-1\.0-0"):
        robust_icp(SOURCE, TARGET)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_result_agrees_to_a_millionth_whatever_the_number_of_threads():
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core alone")
    # Open3D has as many threads as it may use cores; OMP_NUM_THREADS does not bind all of them.
    code = (
        "import json, os, sys\n"
        "os.sched_setaffinity(0, json.loads(sys.argv[1]))\n"
        "from tests.evaluation.registration.clouds import SOURCE, TARGET, rotated\n"
        "from datagen.evaluation import robust_icp\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "found = robust_icp(rotated(SOURCE, 70, 0.9)[0], TARGET).transform.tolist()\n"
        "print(json.dumps([found, len(os.listdir('/proc/self/task')) - before]))\n"
    )
    results, started = [], []
    for chosen in (cores[:1], cores):
        result = subprocess.run(
            [sys.executable, "-c", code, json.dumps(chosen)],
            env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
            cwd=Path(__file__).parents[3],
            check=True,
            capture_output=True,
            text=True,
        )
        transform, threads = json.loads(result.stdout)
        results.append(np.array(transform))
        started.append(threads)
    assert started[0] == 0 < started[1]  # else both ran in one thread, and nothing is shown
    np.testing.assert_allclose(*results, atol=1e-6)
