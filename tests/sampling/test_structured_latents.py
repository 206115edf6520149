"""Sampled latents equal a recorded trajectory, and do not depend on chunks or empty instances."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from datagen.models import load_model
from datagen.sampling.flow_euler import sample_flow
from datagen.sampling.scenes import SamplerConfig
from datagen.sampling.structured_latents import (
    SLAT_MEAN,
    SLAT_STD,
    batch_sites,
    chunks_of,
    sample_structured_latents,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "slat"


@pytest.fixture(scope="module")
def model():
    return load_model(GOLDEN / "small_slat_flow", device="cpu")


@pytest.fixture(scope="module")
def io():
    return load_file(GOLDEN / "small_slat_sampler_io.safetensors")


def split(coords):
    return [coords[coords[:, 0] == b, 1:] for b in range(int(coords[:, 0].max()) + 1)]


def test_sampler_gives_the_recorded_trajectory(model, io):
    voxels = split(io["coords"])
    sites = batch_sites(voxels, torch.device("cpu"))
    torch.testing.assert_close(sites.coords, io["coords"])

    def velocity(x, t, cond):
        return model(x, t[:2], cond, sites)

    out = sample_flow(velocity, io["noise_feats"], io["cond"], torch.zeros_like(io["cond"]))
    torch.testing.assert_close(out, io["samples_feats"], rtol=1e-3, atol=1e-3)
    latents = out * torch.tensor(SLAT_STD) + torch.tensor(SLAT_MEAN)
    torch.testing.assert_close(latents, io["samples_denormalised_feats"], rtol=1e-3, atol=5e-3)


def test_published_normalisation_is_the_recorded_one():
    published = json.loads((GOLDEN / "small_slat_sampler.json").read_text())["normalization"]
    assert published == {"mean": list(SLAT_MEAN), "std": list(SLAT_STD)}


@pytest.mark.parametrize("max_voxels", [10_000, 1])
def test_chunks_and_empty_instances_do_not_change_the_others(model, io, max_voxels):
    config = SamplerConfig(steps=3)
    first, second = split(io["coords"])
    empty = torch.zeros(0, 3, dtype=torch.int32)
    cond = io["cond"][[0, 1, 1]]
    latents = sample_structured_latents(
        model,
        [first, empty, second],
        cond,
        config,
        torch.Generator().manual_seed(5),
        max_voxels=max_voxels,
    )
    assert latents[1] is None
    whole = sample_structured_latents(
        model, [first, second], io["cond"], config, torch.Generator().manual_seed(5)
    )
    for ours, expected in zip((latents[0], latents[2]), whole, strict=True):
        torch.testing.assert_close(ours.coords, expected.coords)
        torch.testing.assert_close(ours.feats, expected.feats, rtol=1e-3, atol=1e-3)


def test_one_voxel_is_sampled(model, io):
    [latents] = sample_structured_latents(
        model,
        [torch.tensor([[3, 4, 5]])],
        io["cond"][:1],
        SamplerConfig(steps=2),
        torch.Generator().manual_seed(0),
    )
    assert latents.feats.shape == (1, 8)
    assert latents.feats.isfinite().all()


def test_no_voxel_anywhere_gives_nothing(model, io):
    empty = torch.zeros(0, 3, dtype=torch.int32)
    sampled = sample_structured_latents(
        model, [empty, empty], io["cond"], SamplerConfig(), torch.Generator()
    )
    assert sampled == [None, None]


def test_200_000_voxels_go_in_chunks_that_keep_the_limit():
    class Model:
        in_channels, seen = 8, []

        def __call__(self, x, t_times_1000, cond, sites):
            self.seen.append(len(sites))
            return torch.zeros_like(x)

    sizes = [30_000, 0, 60_000, 50_000, 60_000]
    voxels = [torch.zeros(size, 3, dtype=torch.int32) for size in sizes]
    model, cond = Model(), torch.zeros(len(sizes), 1, 4)
    config, generator = SamplerConfig(steps=1), torch.Generator().manual_seed(3)
    latents = sample_structured_latents(
        model, voxels, cond, config, generator, max_voxels=100_000, mean=[0] * 8, std=[1] * 8
    )
    assert set(model.seen) == {90_000, 50_000, 60_000}  # the first two with voxels go together
    noise = torch.randn(sum(sizes), 8, generator=torch.Generator().manual_seed(3))
    found = torch.cat([one.feats for one in latents if one is not None])
    torch.testing.assert_close(found, noise)  # no velocity: each voxel keeps its own noise
    [alone] = sample_structured_latents(
        model, [torch.zeros(200_000, 3)], cond[:1], config, generator, max_voxels=100_000
    )
    assert alone.feats.shape == (200_000, 8)


def test_chunks_hold_as_many_instances_as_fit_in_order():
    assert list(chunks_of([4, 0, 5, 3, 20, 1], 9)) == [[0, 2], [3], [4], [5]]
    assert list(chunks_of([], 9)) == []
