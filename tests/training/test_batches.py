"""Batches hold the drawn views and instances, padded, and the same ones for the same step."""

import dataclasses

import numpy as np
import torch

from datagen.training import TrainConfig
from datagen.training.objectives.batches import Batch
from datagen.training.objectives.structure.batches import make_batch
from tests.training.samples import sample_of


def batch_of(samples, instances_per_view: int, places=None, step: int = 0) -> Batch:
    config = TrainConfig(instances_per_view=instances_per_view)
    return make_batch(samples, config, "train", step, places or range(len(samples)))


def test_batch_pairs_each_latent_with_its_own_image():
    batch = batch_of([sample_of(5), sample_of(2)] * 8, 3)
    latents, images = batch.latents, batch.images
    assert latents.shape == batch.drawn.noise.shape == (16, 4, 8, 2, 2, 2)
    assert images.shape == (16, 4, 4, 4, 3)
    assert latents.dtype == torch.float32
    assert images.dtype == torch.uint8
    torch.testing.assert_close(latents[:, :, 0, 0, 0, 0], images[:, :, 0, 0, 0].float())
    assert not latents[:, 0].any()  # the scene first


def test_view_with_fewer_instances_than_asked_gives_all_of_them():
    for row in batch_of([sample_of(2)] * 4, 5).latents[:, 1:, 0, 0, 0, 0]:
        assert sorted(row.tolist()) in ([1, 1, 1, 2, 2], [1, 1, 2, 2, 2])


def test_view_with_more_instances_than_asked_gives_each_about_as_often():
    chosen = batch_of([sample_of(6)] * 1000, 2).latents[:, 1:, 0, 0, 0, 0]
    assert (chosen[:, 0] != chosen[:, 1]).all()
    counts = np.bincount(chosen.flatten().int().numpy(), minlength=7)[1:]
    np.testing.assert_allclose(counts / 2000, 1 / 6, atol=0.03)


def test_draws_of_a_view_depend_on_its_place_in_the_step_alone():
    samples = [sample_of(5, layout_id=i) for i in range(6)]
    whole = batch_of(samples, 2)
    share = batch_of(samples[1::3], 2, places=range(1, 6, 3))
    assert share.views == whole.views[1::3]
    for name in ("latents", "images"):
        assert torch.equal(getattr(share, name), getattr(whole, name)[1::3])
    for field in dataclasses.fields(whole.drawn):
        ours, theirs = getattr(share.drawn, field.name), getattr(whole.drawn, field.name)
        assert torch.equal(ours, theirs[1::3])
    assert not torch.equal(batch_of(samples, 2, step=1).drawn.noise, whole.drawn.noise)
