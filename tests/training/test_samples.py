"""A stored view decodes to the latents and images of its instances."""

import numpy as np

from datagen.training import decode_sample
from datagen.training.objectives.structure.statistics import latent_statistics
from tests.training.samples import sample_of
from tests.training.scenes import source_of, write_scenes


def test_view_decodes_to_its_latents_and_one_crop_for_all_images(tmp_path):
    source = source_of(write_scenes(tmp_path, {3: 2}, num_instances=3))
    sample = decode_sample(source.read_block(0)[1], size_px=32)
    assert (sample.layout_id, sample.view_index, sample.num_instances) == (3, 2, 3)
    assert (sample.scene_latent == -3.25).all() and sample.scene_latent.shape == (8, 16, 16, 16)
    assert (sample.instance_latents[2] == 3).all()
    assert sample.scene_image.shape == (32, 32, 3)
    assert sample.instance_images.shape == (3, 32, 32, 3)
    columns = [np.flatnonzero(image.any(axis=(0, 2))).mean() for image in sample.instance_images]
    assert columns == sorted(columns)  # instance i is the i-th from the left in the map


def test_cropped_map_marks_the_pixels_of_each_instance_image(tmp_path):
    source = source_of(write_scenes(tmp_path, {0: 1}, num_instances=3))
    sample = decode_sample(source.read_block(0)[0], size_px=64)
    assert sample.instance_map.shape == (64, 64)
    for i, image in enumerate(sample.instance_images):
        bright = image[..., 0] > 127
        union = (sample.instance_map == i + 1) | bright
        # They may differ by a pixel along the border, where the image is resampled smoothly.
        assert ((sample.instance_map == i + 1) & bright).sum() > 0.85 * union.sum()


def test_sample_knows_its_memory():
    sample = sample_of(2)
    assert sample.nbytes == 3 * (8 * 8 * 2 + 4 * 4 * 3) + 4 * 4


def test_latent_statistics_are_those_of_all_grids_together():
    rng = np.random.default_rng(0)
    scale = np.arange(1, 9).reshape(8, 1, 1, 1)

    views = [rng.normal(scale, scale, (count, 8, 2, 2, 2)).astype(np.float16) for count in (3, 6)]
    mean, std = latent_statistics(iter(views))
    together = np.concatenate(views)
    expected = together.astype(np.float64)
    np.testing.assert_allclose(mean.squeeze(), expected.mean(axis=(0, 2, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(std.squeeze(), expected.std(axis=(0, 2, 3, 4)), rtol=1e-5)
    assert mean.shape == std.shape == (8, 1, 1, 1)


def test_channel_that_never_varies_keeps_a_standard_deviation_to_divide_by():
    _, std = latent_statistics([np.zeros((1, 8, 2, 2, 2), np.float16)])
    assert (std > 0).all()
