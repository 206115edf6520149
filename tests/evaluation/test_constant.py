"""The constant baseline is the best single answer for all instances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datagen.errors import DatasetError
from datagen.evaluation import fit_constant, voxel_iou

GRIDS = st.integers(1, 6).flatmap(lambda n: arrays(bool, (n, 3, 3, 3)))


def grid_of(*voxels: tuple[int, int, int]) -> np.ndarray:
    grid = np.zeros((4, 4, 4), bool)
    for voxel in voxels:
        grid[voxel] = True
    return grid


def test_constant_of_one_instance_is_that_instance():
    grid = grid_of((0, 1, 2), (3, 3, 3))
    fitted = fit_constant([grid])
    np.testing.assert_array_equal(fitted.grid, grid)
    assert (fitted.mean_iou, fitted.threshold, fitted.num_instances) == (1.0, 1.0, 1)


def test_constant_keeps_what_most_instances_share():
    common = (1, 1, 1)
    grids = [grid_of(common, (0, 0, i)) for i in range(3)]
    fitted = fit_constant(grids)
    np.testing.assert_array_equal(fitted.grid, grid_of(common))
    assert fitted.mean_iou == pytest.approx(0.5)
    assert fitted.threshold == 1.0


@given(GRIDS)
@settings(max_examples=80, deadline=None)
def test_constant_is_the_best_of_all_thresholds_of_the_mean(grids):
    filled = [grid for grid in grids if grid.any()]
    if not filled:
        with pytest.raises(DatasetError, match="0 training instances"):
            fit_constant(grids)
        return
    mean = np.mean(filled, axis=0)
    candidates = [mean >= share - 1e-9 for share in np.unique(mean[mean > 0])]
    best = max(np.mean([voxel_iou(c, grid) for grid in filled]) for c in candidates)
    fitted = fit_constant(iter(grids))
    assert fitted.mean_iou == pytest.approx(best)
    assert np.mean([voxel_iou(fitted.grid, g) for g in filled]) == pytest.approx(best)
    np.testing.assert_array_equal(fitted.grid, mean >= fitted.threshold - 1e-9)
