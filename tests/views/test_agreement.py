"""Protects the check of images against ray-cast instance maps: which pixels disagree."""

import numpy as np

from datagen.views.agreement import disagreement, shadow_map


def square_map():
    instance_map = np.zeros((40, 40), np.uint8)
    instance_map[10:30, 10:30] = 3
    return instance_map


def alpha_of(instance_map):
    return np.where(instance_map > 0, 255, 0).astype(np.uint8)


def test_equal_image_and_map_have_no_disagreement():
    assert disagreement(alpha_of(square_map()), square_map()) == 0


def test_image_shifted_by_one_pixel_is_forgiven_and_by_four_is_not():
    assert disagreement(np.roll(alpha_of(square_map()), 1, axis=1), square_map()) == 0
    # Columns 10..13 lost and 30..33 gained; 10 and 30 are within 1 px of the map's edges. Of the
    # 20 rows, the first and the last are near an edge where they are lost, not where gained.
    assert disagreement(np.roll(alpha_of(square_map()), 4, axis=1), square_map()) == 3 * 18 + 3 * 20


def test_every_pixel_of_a_hole_in_the_image_disagrees():
    alpha = alpha_of(square_map())
    alpha[18:20, 15:20] = 100

    assert disagreement(alpha, square_map()) == 10


def test_pixels_on_transparent_materials_are_left_out():
    alpha = alpha_of(square_map())
    alpha[18:20, 15:20] = 100
    transparent = np.zeros((40, 40), bool)
    transparent[18:20, 15:18] = True

    assert disagreement(alpha, square_map(), transparent) == 4


def test_pixels_at_the_boundary_of_two_objects_are_counted():
    instance_map = square_map()
    instance_map[:, 20:][instance_map[:, 20:] > 0] = 5
    alpha = alpha_of(instance_map)
    alpha[20, 20] = 0

    assert disagreement(alpha, instance_map) == 1


def test_shadow_on_the_ground_is_excused_and_a_second_object_is_not():
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[10:30, 10:30] = 255, 200, 150, 255
    rgba[20:30, 32:38, 3] = 220  # black, and dense
    excused = shadow_map(rgba, square_map())

    assert disagreement(rgba[..., 3], square_map()) == 10 * 6
    assert disagreement(rgba[..., 3], square_map(), excused) == 0

    rgba[20:30, 32:38, 0] = 180
    excused = shadow_map(rgba, square_map())
    assert disagreement(rgba[..., 3], square_map(), excused) == 10 * 6


def test_object_missing_from_a_shadow_is_found():
    rgba = np.zeros((40, 40, 4), np.uint8)

    assert disagreement(rgba[..., 3], square_map(), shadow_map(rgba, square_map())) == 18 * 18
