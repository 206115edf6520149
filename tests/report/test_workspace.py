"""The report reads views, grids and meshes as the workspace stores them."""

import numpy as np
import pytest

from datagen.report.workspace import instance_grids, spread
from datagen.shards.workspace import Workspace
from datagen.views.passes import read_instance_map, read_rgba


def test_grids_of_latents_are_the_instances_in_order_without_the_scene(whole_workspace):
    latent = Workspace(whole_workspace).latent(1, 4)
    grids = instance_grids(latent)
    assert grids.shape == (4, 64, 64, 64)
    # Tables are wide, balls on tables high up: x, y, z must not be swapped.
    table, lamp, ground_ball, carried_ball = (np.argwhere(grid) for grid in grids)
    assert carried_ball[:, 2].min() >= table[:, 2].max() - 1
    assert lamp[:, 0].min() > table[:, 0].max() > ground_ball[:, 0].max()
    assert ground_ball[:, 1].max() < lamp[:, 1].min()


def test_view_is_found_by_scene_and_index_and_dropped_ones_have_no_picture(whole_workspace):
    workspace = Workspace(whole_workspace)
    view = workspace.view(1, 5)
    assert (view["layout_id"], view["view_index"]) == (1, 5)
    assert workspace.input_picture(1, 5).shape == (96, 96, 4)
    assert workspace.input_picture(1, 3) is None
    assert workspace.view(1, 99) is None
    assert workspace.view(99, 0) is None


def test_pictures_are_decoded_as_stored(whole_workspace):
    view = Workspace(whole_workspace).view(0, 0)
    labels, rgba = read_instance_map(view["instance_map"]), read_rgba(view["rgb"])
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(rgba[..., 3] == 255, labels > 0)


def test_placed_triangles_stand_where_the_layout_puts_them(whole_workspace):
    workspace = Workspace(whole_workspace)
    for placement in workspace.layout(1)["placements"]:
        corners = workspace.placed_triangles(placement).reshape(-1, 3)
        offsets = np.linalg.norm(corners[:, :2] - placement["position_m"][:2], axis=1)
        assert offsets.max() == pytest.approx(placement["radius_m"], rel=1e-6)
        assert corners[:, 2].min() == pytest.approx(placement["position_m"][2], abs=1e-6)


def test_unfinished_stage_is_none(whole_workspace, tmp_path):
    (tmp_path / "renders").mkdir()
    assert Workspace(tmp_path).dataset("renders") is None
    assert Workspace(tmp_path).layout(0) is None
    assert Workspace(tmp_path).assets() == {}


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [(0, 3, []), (3, 3, [0, 1, 2]), (7, 3, [0, 3, 6]), (100, 2, [0, 99])],
)
def test_spread_takes_first_last_and_even_steps(length, count, expected):
    assert list(spread(list(range(length)), count)) == expected
