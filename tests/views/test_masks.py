"""Protects the reading of images and segmentations from files, in every released form."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datagen.errors import RowError
from datagen.views.masks import read_masked_image, segmentation_ids

IDS = np.array([[0, 3, 3], [7, 7, 0]])


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    Image.fromarray(pixels, mode).save(path)
    return path


def as_colours(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)


def palette(ids: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids.astype(np.uint8), "P")
    image.putpalette(list(range(256)) * 3)
    return image


@pytest.mark.parametrize(
    ("image", "ids"),
    [
        (Image.fromarray(IDS.astype(np.uint8)), IDS),
        (Image.fromarray((IDS * 1000).astype(np.uint16)), IDS * 1000),
        (palette(IDS), IDS),
        (Image.fromarray(np.repeat(IDS[..., None], 3, axis=2).astype(np.uint8)), IDS),
        (Image.fromarray(as_colours(IDS * 100)), IDS * 100),  # r + 256·g, 300 and 700
        (Image.fromarray(as_colours(IDS << 16)), IDS << 16),  # blue alone
        (Image.fromarray(as_colours(IDS + (IDS > 0) * 0x30201)), IDS + (IDS > 0) * 0x30201),
        (Image.fromarray(IDS > 0), (IDS > 0).astype(int)),
    ],
    ids=["gray", "16 bits", "palette", "gray rgb", "16 bits in rg", "blue", "rgb", "1 bit"],
)
def test_every_released_kind_of_segmentation_gives_its_ids(image, ids, tmp_path):
    image.save(tmp_path / "masks.png")
    np.testing.assert_array_equal(segmentation_ids(Image.open(tmp_path / "masks.png")), ids)


def test_alpha_of_a_segmentation_is_ignored():
    rgba = np.dstack([as_colours(IDS), np.full((2, 3, 1), 255, np.uint8)])
    np.testing.assert_array_equal(segmentation_ids(Image.fromarray(rgba)), IDS)
    gray = np.dstack([IDS, np.full((2, 3), 255)]).astype(np.uint8)
    np.testing.assert_array_equal(segmentation_ids(Image.fromarray(gray, "LA")), IDS)


def test_labels_are_ascending_and_become_placements(tmp_path):
    ids = np.zeros((20, 20), np.uint8)
    ids[:5], ids[5:8], ids[12:14] = 200, 9, 31
    image = save(tmp_path / "scene.png", np.full((20, 20, 3), 77, np.uint8))
    read = read_masked_image(image, save(tmp_path / "masks.png", ids))
    assert read.labels == [9, 31, 200]
    assert read.visible_px == [60, 40, 100]
    assert set(read.instance_map[5:8].ravel()) == {1}
    assert set(read.instance_map[:5].ravel()) == {3}
    assert read.warnings() == []


def test_masks_of_another_size_decide_the_size_and_give_a_warning(tmp_path):
    image = save(tmp_path / "scene.png", np.full((60, 90, 3), 77, np.uint8))
    masks = save(tmp_path / "masks.png", np.ones((40, 30), np.uint8))
    read = read_masked_image(image, masks)
    assert read.rgba.shape == (40, 30, 4)
    assert read.instance_map.shape == (40, 30)
    assert (read.rgba[..., :3] == 77).all()
    [warning] = read.warnings()
    assert "90×60" in warning and "30×40" in warning


def test_instance_of_three_pixels_is_kept_with_a_warning(tmp_path):
    ids = np.zeros((100, 100), np.uint8)
    ids[10:60, 10:60] = 1
    ids[80, 80:83] = 2
    image = save(tmp_path / "scene.png", np.zeros((100, 100, 3), np.uint8))
    read = read_masked_image(image, save(tmp_path / "masks.png", ids))
    assert read.labels == [1, 2]
    [warning] = read.warnings()
    assert "instance 1 (label 2) has only 3 pixels" in warning


def test_transparent_pixels_are_black_and_other_alpha_is_dropped(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[:] = (200, 100, 50, 255)
    rgba[0, 0, 3], rgba[0, 1, 3] = 0, 51
    read = read_masked_image(
        save(tmp_path / "scene.png", rgba), save(tmp_path / "m.png", np.ones((2, 2), np.uint8))
    )
    assert read.rgba[0, 0].tolist() == [0, 0, 0, 255]
    assert read.rgba[0, 1].tolist() == [200, 100, 50, 255]


def test_sixteen_bit_gray_image_keeps_its_shades(tmp_path):
    shades = np.array([[0, 256 * 80], [256 * 160, 65535]], np.uint16)
    read = read_masked_image(
        save(tmp_path / "scene.png", shades), save(tmp_path / "m.png", np.ones((2, 2), np.uint8))
    )
    assert read.rgba[..., 0].tolist() == [[0, 80], [160, 255]]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4), np.uint8), "all 16 pixels are 0"),
        (np.arange(400, dtype=np.uint16).reshape(20, 20), "holds 399 labels"),
    ],
    ids=["empty", "photograph"],
)
def test_file_without_a_segmentation_is_refused_with_the_reason(pixels, message, tmp_path):
    image = save(tmp_path / "scene.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(RowError, match=message):
        read_masked_image(image, save(tmp_path / "masks.png", pixels))


def test_missing_or_unreadable_file_is_named(tmp_path):
    masks = save(tmp_path / "masks.png", np.ones((4, 4), np.uint8))
    with pytest.raises(RowError, match=r"none\.png: no such file"):
        read_masked_image(tmp_path / "none.png", masks)
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(RowError, match=r"text\.png: not a readable image"):
        read_masked_image(tmp_path / "text.png", masks)
    (tmp_path / "half.png").write_bytes(masks.read_bytes()[:40])
    with pytest.raises(RowError, match=r"half\.png: not a readable image"):
        read_masked_image(tmp_path / "half.png", masks)
