"""Chapters show the images, voxels and names that the workspace holds."""

import numpy as np

from datagen.report.scenes import input_image, placement_name, scenes_with_views
from datagen.shards.workspace import Workspace
from datagen.views.passes import read_instance_map, read_rgba
from datagen.voxels import unpack_instances


def test_grids_of_latents_are_the_instances_in_order_without_the_scene(whole_workspace):
    latent = Workspace.at(whole_workspace).latent(1, 4)
    grids = unpack_instances(latent["occupancy"].tobytes())
    assert grids.shape == (4, 64, 64, 64)
    # Tables are wide, balls on tables high up: x, y, z must not be swapped.
    table, lamp, ground_ball, carried_ball = (np.argwhere(grid) for grid in grids)
    assert carried_ball[:, 2].min() >= table[:, 2].max() - 1
    assert lamp[:, 0].min() > table[:, 0].max() > ground_ball[:, 0].max()
    assert ground_ball[:, 1].max() < lamp[:, 1].min()


def test_kept_view_has_an_input_image_and_dropped_or_missing_ones_have_none(whole_workspace):
    workspace = Workspace.at(whole_workspace)
    assert input_image(workspace, 1, 5).shape == (96, 96, 4)
    assert input_image(workspace, 1, 3) is None
    assert input_image(workspace, 1, 99) is None


def test_images_are_decoded_as_stored(whole_workspace):
    view = Workspace.at(whole_workspace).view(0, 0)
    labels, rgba = read_instance_map(view["instance_map"]), read_rgba(view["rgb"])
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(rgba[..., 3] == 255, labels > 0)


def test_scenes_with_kept_views_are_shown(whole_workspace):
    assert scenes_with_views(Workspace.at(whole_workspace)) == [0, 1]


def test_placement_is_named_after_its_asset_or_its_id_while_there_are_none(
    whole_workspace, tmp_path
):
    placement = {"asset_id": "table"}
    assert placement_name(Workspace.at(whole_workspace), placement) == "plain table"
    assert placement_name(Workspace.at(tmp_path), {"asset_id": "0123456789"}) == "01234567"
