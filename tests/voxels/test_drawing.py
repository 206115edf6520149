"""Protects drawings of voxels: positions, occlusion, colours, and the preview's panels."""

import io

import numpy as np
import pytest
from PIL import Image

from datagen.voxels.drawing import (
    color_instances,
    draw_voxels,
    instance_color,
    png_bytes,
    write_preview,
)

TOWARDS_VIEWER = np.array([8, -16, 10])


def hue_at(image: np.ndarray, voxel: tuple[int, int, int]) -> np.ndarray:
    """Return the colour where the middle of a voxel's top is drawn: (4, 1), (2, −2), (0, −4) px."""
    resolution = 64
    corner = np.array([0, -2 * resolution - 4 * resolution]) - 4  # smallest u and v, margin
    point = np.array(voxel) + np.array([0.5, 0.5, 1.0])
    u, v = point @ np.array([[4, 1], [2, -2], [0, -4]]) - [-4, corner[1]]
    return image[int(v), int(u)]


def same_hue(pixel: np.ndarray, index: int) -> bool:
    """Return whether a shaded colour is a multiple of an instance's colour."""
    color = np.array(instance_color(index), float)
    scale = pixel[:3].astype(float) @ color / (color @ color)
    return bool(np.abs(pixel[:3] - scale * color).max() < 8)


def grids(*voxels: tuple[int, int, int]) -> np.ndarray:
    result = np.zeros((len(voxels), 64, 64, 64), bool)
    for grid, voxel in zip(result, voxels, strict=True):
        grid[voxel] = True
    return result


def test_palette_of_a_scene_has_colours_that_differ():
    colors = np.array([instance_color(i) for i in range(12)], float)
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1) + 999 * np.eye(12)
    assert distance.min() > 40
    assert len({instance_color(i) for i in range(40)}) == 40


def test_instance_map_zero_is_transparent_and_i_plus_one_is_placement_i():
    painted = color_instances(np.array([[0, 1], [3, 0]], np.uint8))
    assert painted[0, 0, 3] == painted[1, 1, 3] == 0
    assert tuple(painted[0, 1]) == (*instance_color(0), 255)
    assert tuple(painted[1, 0]) == (*instance_color(2), 255)


@pytest.mark.parametrize("voxel", [(0, 0, 0), (63, 0, 0), (0, 63, 0), (0, 0, 63), (20, 40, 31)])
def test_voxel_is_drawn_at_its_projection_and_nowhere_else(voxel):
    image = draw_voxels(grids(voxel))
    assert same_hue(hue_at(image, voxel), 0)
    opaque = np.argwhere(image[..., 3] == 255)
    assert len(opaque) <= 36  # three faces of 8, 10 and 16 pixels
    assert np.ptp(opaque, axis=0).max() < 8


def test_three_faces_of_a_voxel_have_three_shades():
    image = draw_voxels(grids((30, 30, 30)))
    shades = np.unique(image[image[..., 3] == 255][:, 0])
    assert len(shades) == 3


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_nearer_voxel_hides_the_farther_in_any_order(order):
    near = np.array([40, 10, 40])
    far = near - TOWARDS_VIEWER  # the same pixels, behind
    voxels = [tuple(near), tuple(far)]
    image = draw_voxels(grids(*(voxels[i] for i in order)))
    assert same_hue(hue_at(image, tuple(near)), order.index(0))


@pytest.mark.parametrize(
    "shift", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, -1), (-1, 0, 0), (1, 1, 1)]
)
def test_farther_voxel_changes_no_pixel_of_the_nearer_one(shift):
    near = np.array([40, 10, 40])
    far = near - TOWARDS_VIEWER + shift  # overlaps it in part
    alone, both = draw_voxels(grids(tuple(near))), draw_voxels(grids(tuple(near), tuple(far)))
    opaque = alone[..., 3] == 255
    np.testing.assert_array_equal(both[opaque], alone[opaque])
    assert (both[..., 3] == 255).sum() > opaque.sum()


def test_image_of_solid_block_has_no_holes():
    solid = np.zeros((1, 64, 64, 64), bool)
    solid[0, 10:50, 5:60, 20:40] = True
    opaque = draw_voxels(solid)[..., 3] == 255
    for lines in (opaque, opaque.T):
        for line in lines:
            where = np.flatnonzero(line)
            assert (np.diff(where) == 1).all()


def test_image_of_empty_grids_is_an_empty_cube():
    image = draw_voxels(np.zeros((2, 64, 64, 64), bool))
    assert image.shape == (456, 392, 4)
    assert 0 < (image[..., 3] > 0).mean() < 0.05
    assert draw_voxels(np.zeros((0, 64, 64, 64), bool)).shape == (456, 392, 4)


def test_preview_shows_input_sampled_and_true_side_by_side(tmp_path):
    rgba = np.full((32, 32, 4), 255, np.uint8)
    rgba[..., :3] = (10, 200, 30)
    predicted, true = np.zeros((2, 64, 64, 64), bool), np.zeros((2, 64, 64, 64), bool)
    predicted[0, 20:40, 20:40, 20:40] = True
    true[1, 20:40, 20:40, 20:40] = True
    write_preview(tmp_path / "both.png", rgba, predicted, true)
    write_preview(tmp_path / "alone.png", rgba, predicted, None)
    both, alone = (np.asarray(Image.open(tmp_path / name)) for name in ("both.png", "alone.png"))
    assert both.shape[0] == alone.shape[0] and both.shape[1] > alone.shape[1] + 300
    assert (both == (10, 200, 30)).all(axis=2).mean() > 0.2
    third = both[:, alone.shape[1] :].reshape(-1, 3).astype(int)
    assert (third[:, 2] > third[:, 0] + 40).sum() > 1000  # blue: instance 1 is in the truth
    assert (alone[:, 420:].astype(int)[..., 2] > alone[:, 420:].astype(int)[..., 0] + 40).sum() == 0


def test_png_bytes_keep_every_pixel():
    pixels = np.arange(4 * 5 * 4, dtype=np.uint8).reshape(4, 5, 4)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(pixels)))), pixels)
