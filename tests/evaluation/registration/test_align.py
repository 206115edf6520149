"""The clouds are brought into one range before they are registered, as each protocol says."""

import numpy as np
import pytest

from datagen.core.frames import transform_points
from datagen.errors import ConfigError
from datagen.evaluation import AlignOptions, IcpOptions, align_clouds
from datagen.evaluation.formulas import cd_sq_sum
from tests.evaluation.registration.clouds import SOURCE, TARGET, rotated


def test_none_only_brings_one_range_into_the_other():
    options = AlignOptions(align="none", source_range=(-1.0, 1.0), target_range=(-0.5, 0.5))
    found = align_clouds(2 * SOURCE, TARGET, options)
    np.testing.assert_allclose(found.transform, np.diag([0.5, 0.5, 0.5, 1]))
    assert (found.space, found.registration) == ("none", None)
    assert found.cd_sq_sum == pytest.approx(cd_sq_sum(2 * SOURCE, 2 * TARGET))


@pytest.mark.parametrize("align", ["robust", "multistart"])
def test_rotated_prediction_comes_back_whatever_its_range(align):
    moved, back = rotated(SOURCE, 140, 0.9, (0.1, 0.1, 0))
    scaled = 2.01 * moved  # as of a method whose coordinates lie in ±1.005
    options = AlignOptions(align=align, source_range=(-1.005, 1.005))
    found = align_clouds(scaled, TARGET, options)
    np.testing.assert_allclose(found.transform @ np.diag([2.01, 2.01, 2.01, 1]), back, atol=0.02)
    assert found.cd_sq_sum == pytest.approx(
        cd_sq_sum(2 * transform_points(found.transform, scaled), 2 * TARGET)
    )


def test_better_of_the_two_spaces_is_the_box_where_the_range_is_far_off():
    moved, _ = rotated(SOURCE, 0, 0.12, (0.4, 0.4, 0.4))
    found = align_clouds(moved, TARGET)
    assert found.space == "box"
    assert found.cd_sq_sum < 0.001


def test_better_of_the_two_spaces_is_the_range_where_a_stray_part_widens_the_box():
    stray = np.concatenate([SOURCE, SOURCE[:300] * 0.1 + [1.5, 0, 0]])
    icp = IcpOptions(sweep_centre="origin")  # a sweep about boxes goes astray in both spaces
    found = align_clouds(stray, TARGET, AlignOptions(icp=icp))
    assert found.space == "range"
    np.testing.assert_allclose(found.transform, np.eye(4), atol=0.05)


def test_second_space_axis_by_axis_stretches_and_isotropic_does_not():
    stretched = SOURCE * [1.0, 1.0, 1.5]
    per_axis = align_clouds(stretched, TARGET, AlignOptions(second_space="per_axis"))
    assert per_axis.space == "box"
    assert per_axis.cd_sq_sum < align_clouds(stretched, TARGET).cd_sq_sum / 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"align": "best"}, "align is 'best'"), ({"target_range": (1.0, 0.0)}, "target_range is")],
)
def test_options_that_cannot_work_are_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        AlignOptions(**fields)
