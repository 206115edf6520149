"""The registrations that other papers published, faults included, do what they did there."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datagen.core.frames import transform_points
from datagen.evaluation.registration.published_icp import filterreg, midi_icp
from datagen.evaluation.registration.similarity import similarity
from tests.evaluation.registration.clouds import SOURCE, TARGET

SMALL = similarity(1.0, Rotation.from_rotvec([0.05, 0.02, 0.15]).as_matrix(), np.full(3, 0.03))


def degrees(transform):
    return np.degrees(Rotation.from_matrix(transform[:3, :3]).magnitude())


def meant(source, target):
    return midi_icp(source, target, as_published=False)


# FilterReg sees 2,000 of the points, some 0.03 apart; of a rotation of 9° a quarter may stay.
@pytest.mark.parametrize(("aligner", "left_deg"), [(meant, 2.0), (filterreg, 2.5)])
def test_small_turn_comes_back(aligner, left_deg):
    found = aligner(transform_points(SMALL, SOURCE), TARGET)
    assert degrees(found @ SMALL) < left_deg
    assert np.linalg.norm((found @ SMALL)[:3, 3]) < 0.01


def test_midis_published_icp_turns_even_a_cloud_that_lies_on_itself():
    assert degrees(midi_icp(TARGET, TARGET)) > 5
    assert degrees(midi_icp(TARGET, TARGET, as_published=False)) < 0.01


def test_midis_published_turn_is_the_one_that_torch_svd_misread_gives():
    # The published lines, written out: torch.svd returns V, the code names it Vt.
    centred = torch.as_tensor(TARGET - TARGET.mean(axis=0))
    u, _, vt = torch.svd(centred.T @ centred)
    rotation = vt.T @ u.T
    found = midi_icp(TARGET, TARGET, iterations=1)
    np.testing.assert_allclose(found[:3, :3], rotation.numpy(), atol=1e-9)


def test_filterreg_has_no_scale():
    found = filterreg(1.2 * SOURCE, TARGET)
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1.0)
