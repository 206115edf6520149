"""Protects condition images: crop, masks, resizing and blending, as in I-Scene's release."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import RowError
from datagen.views.conditioning import (
    canonical_images,
    condition_images,
    crop_instance_map,
    resize_lanczos4,
)

RED, GREEN = (250, 0, 0), (0, 250, 0)


def two_squares() -> tuple[np.ndarray, np.ndarray]:
    """A 100 px view: placement 0 red at columns 20–40, placement 1 green at 60–80, rows 40–60."""
    instance_map = np.zeros((100, 100), np.uint8)
    instance_map[40:61, 20:41] = 1
    instance_map[40:61, 60:81] = 2
    rgba = np.full((100, 100, 4), 255, np.uint8)  # an opaque white background, to be removed
    rgba[instance_map == 1, :3] = RED
    rgba[instance_map == 2, :3] = GREEN
    return rgba, instance_map


def test_crop_is_the_square_of_1_2_times_the_union_box():
    rgba, instance_map = two_squares()
    # The union spans columns 20–80, rows 40–60: centre (50, 50), side int(1.2 · 60) = 72.
    scene, instances = condition_images(rgba, instance_map, 2, size_px=72)
    expected = np.zeros((72, 72, 3), np.uint8)
    expected[26:47, 6:27] = RED  # row 40 - (50 - 36), column 20 - (50 - 36)
    expected[26:47, 46:67] = GREEN
    np.testing.assert_array_equal(scene, expected)
    np.testing.assert_array_equal(instances.sum(axis=0), expected)


def test_instance_stays_at_its_place_in_the_scene_crop():
    rgba, instance_map = two_squares()
    scene, instances = condition_images(rgba, instance_map, 2, size_px=72)
    assert instances.shape == (2, 72, 72, 3)
    np.testing.assert_array_equal(instances[0][:, :36], scene[:, :36])
    assert not instances[0][:, 36:].any()
    np.testing.assert_array_equal(instances[1][:, 36:], scene[:, 36:])
    assert not instances[1][:, :36].any()


def test_crop_beyond_the_image_is_black():
    rgba = np.full((50, 50, 4), 255, np.uint8)
    scene, _ = condition_images(rgba, np.ones((50, 50), np.uint8), 1, size_px=58)
    # Side int(1.2 · 49) = 58 about (24.5, 24.5); −4.5 is rounded to the even −4: 4 px of nothing
    # before, 4 after.
    assert (scene[4:54, 4:54] == 255).all()
    assert not scene[:4].any()
    assert not scene[:, :4].any()
    assert not scene[54:].any()


def test_straight_alpha_is_composited_on_black():
    rgba = np.zeros((30, 30, 4), np.uint8)
    rgba[...] = (200, 100, 50, 51)  # a fifth opaque
    scene, _ = condition_images(rgba, np.ones((30, 30), np.uint8), 1, size_px=34)
    np.testing.assert_array_equal(scene[17, 17], (40, 20, 10))


def test_instance_that_is_not_in_the_map_gets_a_black_image():
    rgba, instance_map = two_squares()
    _, instances = condition_images(rgba, instance_map, 3, size_px=40)
    assert instances.shape == (3, 40, 40, 3)
    assert not instances[2].any()


def test_sixteen_bit_map_with_label_above_255_is_read():
    rgba, instance_map = two_squares()
    wide = instance_map.astype(np.uint16) * 150  # labels 150 and 300
    _, instances = condition_images(rgba, wide, 300, size_px=72)
    assert instances[299].any()
    assert instances[149].any()
    assert not instances[43].any()  # 300 - 256 - 1: where a narrow type would have put it


@pytest.mark.parametrize(
    ("first", "last", "expected_left"),
    [(10, 20, 9), (10, 21, 10), (11, 22, 10), (20, 29, 20)],  # centres 15, 15.5, 16.5, 24.5
)
def test_crop_corner_is_rounded_as_pillow_rounds_it(first, last, expected_left):
    instance_map = np.zeros((40, 40), np.uint8)
    instance_map[5, first : last + 1] = 1
    side = 2 * (int(1.2 * (last - first)) // 2)
    scene, _ = condition_images(np.full((40, 40, 4), 255, np.uint8), instance_map, 1, side)
    assert np.flatnonzero(scene.any(axis=(0, 2)))[0] == first - expected_left


def test_map_is_cropped_as_the_image_is():
    rgba, instance_map = two_squares()
    scene, _ = condition_images(rgba, instance_map, 2, size_px=72)
    labels = crop_instance_map(instance_map, 72)
    np.testing.assert_array_equal(labels == 1, (scene == RED).all(axis=2))
    np.testing.assert_array_equal(labels == 2, (scene == GREEN).all(axis=2))


@pytest.mark.parametrize("factor", [3, 9])
def test_smaller_map_has_the_label_at_each_pixels_centre(factor):
    _, instance_map = two_squares()
    instance_map[40:61, 21:41:2] = 3  # stripes of a pixel: neighbours differ
    whole = crop_instance_map(instance_map, 72)
    middle = factor // 2
    expected = whole[middle::factor, middle::factor]
    np.testing.assert_array_equal(crop_instance_map(instance_map, 72 // factor), expected)


def test_larger_map_repeats_each_label():
    _, instance_map = two_squares()
    whole = crop_instance_map(instance_map, 72)
    np.testing.assert_array_equal(
        crop_instance_map(instance_map, 144), whole.repeat(2, axis=0).repeat(2, axis=1)
    )


def test_empty_map_has_no_crop():
    with pytest.raises(RowError, match="no instance is visible"):
        crop_instance_map(np.zeros((9, 9), np.uint8), 8)


def test_canonical_image_is_the_instance_alone_in_its_own_crop():
    rgba, instance_map = two_squares()
    first, second, hidden = canonical_images(rgba, instance_map, 3, size_px=24)
    # Columns 20–40: centre 30, side int(1.2 · 20) = 24; the other one stands outside.
    for image, colour in ((first, RED), (second, GREEN)):
        np.testing.assert_array_equal(image[2:23, 2:23], np.broadcast_to(colour, (21, 21, 3)))
        assert image.any(axis=2).sum() == 21 * 21
    assert not hidden.any()


def test_lanczos4_gives_what_opencv_gives():
    image = np.zeros((6, 6, 3), np.uint8)
    image[2, 3, 1], image[4, 1, 1] = 128, 255
    opencv = [  # cv2.resize(…, (9, 9), interpolation=cv2.INTER_LANCZOS4) of 4.10, clipped
        [0, 0, 0, 0, 3, 5, 1, 0, 0],
        [1, 0, 0, 2, 0, 0, 0, 4, 0],
        [0, 5, 3, 0, 13, 22, 4, 0, 1],
        [0, 14, 3, 0, 74, 116, 22, 0, 5],
        [4, 0, 0, 0, 56, 74, 13, 0, 3],
        [0, 27, 44, 10, 0, 0, 0, 2, 0],
        [0, 150, 231, 44, 0, 3, 3, 0, 0],
        [0, 98, 150, 27, 0, 14, 5, 0, 0],
        [4, 0, 0, 0, 4, 0, 0, 1, 0],
    ]
    resized = resize_lanczos4(image, 9)
    np.testing.assert_array_equal(resized[..., 1], opencv)
    assert not resized[..., [0, 2]].any()


def test_empty_map_is_a_row_error():
    with pytest.raises(RowError, match="no instance is visible"):
        condition_images(np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9), np.uint8), 1, 8)


def test_map_of_another_size_is_a_row_error():
    with pytest.raises(RowError, match="differ in size"):
        condition_images(np.zeros((9, 9, 4), np.uint8), np.ones((8, 9), np.uint8), 1, 8)


@settings(max_examples=40, deadline=None)
@given(
    row=st.integers(0, 39),
    column=st.integers(0, 39),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_any_visible_box_lies_whole_inside_the_crop(row, column, height, width):
    """At unit scale nothing is cut, unless rounding eats the margin of a tiny box."""
    instance_map = np.zeros((40, 40), np.uint8)
    instance_map[row : row + height, column : column + width] = 1
    longest = max(np.ptp(np.flatnonzero(instance_map.any(axis=axis))) for axis in (0, 1))
    side = 2 * max(int(1.2 * longest) // 2, 1)
    scene, instances = condition_images(
        np.full((40, 40, 4), 255, np.uint8), instance_map, 1, size_px=side
    )
    np.testing.assert_array_equal(scene, instances[0])
    seen = (scene[..., 0] == 255).sum()
    visible = int(instance_map.sum())
    assert seen <= visible
    if longest >= 20:
        assert seen == visible
