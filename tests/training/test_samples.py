import io

import numpy as np
import pytest
import torch
from PIL import Image

from datagen.core.seeding import rng_for
from datagen.errors import DatasetError
from datagen.shards.schemas import LATENTS, tensor_bytes
from datagen.training.samples import (
    SceneSample,
    latent_statistics,
    read_samples,
    training_batch,
)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def latent_row(layout_id: int, view_index: int, num_instances: int) -> dict:
    shape = (8, 16, 16, 16)
    instances = np.stack([np.full(shape, i + 1) for i in range(num_instances)])
    return {
        "layout_id": layout_id,
        "view_index": view_index,
        "num_instances": num_instances,
        "scene_latent": tensor_bytes(LATENTS.field("scene_latent"), np.full(shape, -1.0)),
        "instance_latents": tensor_bytes(LATENTS.field("instance_latents"), instances),
    }


def render_row(layout_id: int, view_index: int, num_instances: int, kept: bool = True) -> dict:
    instance_map = np.zeros((20, 20), np.uint8)
    for i in range(num_instances):
        instance_map[4:16, 2 + 4 * i : 5 + 4 * i] = i + 1
    rgba = np.full((20, 20, 4), 255, np.uint8)
    images = {"rgb": png(rgba), "instance_map": png(instance_map)} if kept else {}
    return {"layout_id": layout_id, "view_index": view_index, "kept": kept, **images}


def sample_of(num_instances: int, layout_id: int = 0) -> SceneSample:
    """Instance i has latent i + 1 and an image of that colour; the scene has latent 0."""
    ids = np.arange(1, num_instances + 1)
    return SceneSample(
        layout_id=layout_id,
        view_index=0,
        scene_latent=np.zeros((8, 2, 2, 2), np.float16),
        instance_latents=np.broadcast_to(
            ids.reshape(-1, 1, 1, 1, 1), (num_instances, 8, 2, 2, 2)
        ).astype(np.float16),
        scene_image=np.zeros((4, 4, 3), np.uint8),
        instance_images=np.broadcast_to(ids.reshape(-1, 1, 1, 1), (num_instances, 4, 4, 3)).astype(
            np.uint8
        ),
    )


def test_rows_of_both_datasets_join_by_view_in_order():
    latents = [latent_row(7, 1, 2), latent_row(3, 0, 3), latent_row(7, 0, 2)]
    renders = [
        render_row(7, 0, 2),
        render_row(7, 5, 2, kept=False),
        render_row(3, 0, 3),
        render_row(7, 1, 2),
    ]
    samples = read_samples(latents, renders, size_px=32)
    assert [(s.layout_id, s.view_index) for s in samples] == [(3, 0), (7, 0), (7, 1)]
    first = samples[0]
    assert first.num_instances == 3
    assert first.scene_latent.shape == (8, 16, 16, 16)
    assert (first.scene_latent == -1).all()
    assert (first.instance_latents[2] == 3).all()
    assert first.scene_image.shape == (32, 32, 3)
    assert first.instance_images.shape == (3, 32, 32, 3)
    columns = [np.flatnonzero(image.any(axis=(0, 2))).mean() for image in first.instance_images]
    assert columns == sorted(columns)  # instance i is the i-th from the left in the map


def test_latent_without_its_render_is_an_error_that_names_it():
    renders = [render_row(1, 0, 2), render_row(1, 1, 2, kept=False)]
    with pytest.raises(DatasetError, match=r"1 of 2 views have no render.*layout 1, view 1"):
        read_samples([latent_row(1, 0, 2), latent_row(1, 1, 2)], renders, size_px=32)


def test_batch_pairs_each_latent_with_its_own_image():
    latents, images = training_batch([sample_of(5), sample_of(2)], 16, 3, rng_for(0, "batch"))
    assert latents.shape == (16, 4, 8, 2, 2, 2)
    assert images.shape == (16, 4, 4, 4, 3)
    assert latents.dtype == torch.float32
    assert images.dtype == torch.uint8
    torch.testing.assert_close(latents[:, :, 0, 0, 0, 0], images[:, :, 0, 0, 0].float())
    assert not latents[:, 0].any()  # the scene first


def test_view_with_fewer_instances_than_asked_gives_all_of_them():
    latents, _ = training_batch([sample_of(2)], 4, 5, rng_for(0, "few"))
    for row in latents[:, 1:, 0, 0, 0, 0]:
        assert sorted(row.tolist()) in ([1, 1, 1, 2, 2], [1, 1, 2, 2, 2])


def test_view_with_more_instances_than_asked_gives_each_about_as_often():
    latents, _ = training_batch([sample_of(6)], 1000, 2, rng_for(0, "many"))
    chosen = latents[:, 1:, 0, 0, 0, 0]
    assert (chosen[:, 0] != chosen[:, 1]).all()
    counts = np.bincount(chosen.flatten().int().numpy(), minlength=7)[1:]
    np.testing.assert_allclose(counts / 2000, 1 / 6, atol=0.03)


def test_latent_statistics_are_those_of_all_grids_together():
    rng = np.random.default_rng(0)
    scale = np.arange(1, 9).reshape(8, 1, 1, 1)

    def sample(num_instances: int) -> SceneSample:
        latents = rng.normal(scale, scale, (num_instances + 1, 8, 2, 2, 2)).astype(np.float16)
        return SceneSample(
            layout_id=0,
            view_index=0,
            scene_latent=latents[0],
            instance_latents=latents[1:],
            scene_image=np.zeros((4, 4, 3), np.uint8),
            instance_images=np.zeros((num_instances, 4, 4, 3), np.uint8),
        )

    samples = [sample(2), sample(5)]
    mean, std = latent_statistics(samples)
    together = np.concatenate([[s.scene_latent, *s.instance_latents] for s in samples])
    expected = together.astype(np.float64)
    np.testing.assert_allclose(mean.squeeze(), expected.mean(axis=(0, 2, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(std.squeeze(), expected.std(axis=(0, 2, 3, 4)), rtol=1e-5)
    assert mean.shape == std.shape == (8, 1, 1, 1)


def test_channel_that_never_varies_keeps_a_spread_to_divide_by():
    _, std = latent_statistics([sample_of(0)])
    assert (std > 0).all()
