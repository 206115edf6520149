"""The small autoencoder: patches, latents and neighbourhoods, and what its weights reconstruct."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

import datagen.models
from datagen.core.seeding import rng_for
from datagen.models import load_model
from datagen.models.patches import patchify, unpatchify
from datagen.models.small_autoencoder import (
    OCCUPIED_POWER,
    OFFSET,
    SmallSparseStructureDecoder,
    SmallSparseStructureEncoder,
    gather_neighbourhoods,
)
from datagen.voxels import voxelize_surface

WEIGHTS = Path(datagen.models.__file__).parent / "weights"


def random_occupancy(seed, share=0.02):
    """Return two grids (2, 1, 64, 64, 64), float, with a few voxels each."""
    return torch.from_numpy(rng_for(seed, "grids").random((2, 1, 64, 64, 64)) < share).float()


@pytest.fixture(scope="module")
def committed():
    """The committed encoder and decoder."""
    return tuple(
        load_model(WEIGHTS / name, device="cpu") for name in ("small_ss_enc", "small_ss_dec")
    )


def test_patch_holds_its_own_voxels_in_xyz_order():
    occupancy = torch.arange(64**3).reshape(1, 1, 64, 64, 64)
    patches = patchify(occupancy, 4)
    expected = occupancy[0, 0, 8:12, 60:64, 4:8].flatten()
    assert patches.shape == (1, 16**3, 64)
    torch.testing.assert_close(patches.unflatten(1, (16, 16, 16))[0, 2, 15, 1], expected)


def test_patches_join_to_the_grid_they_were_cut_from():
    occupancy = random_occupancy(0, 0.5)
    torch.testing.assert_close(unpatchify(patchify(occupancy, 4), 4, 16), occupancy)


def test_neighbourhood_is_27_latents_in_xyz_order_and_zero_outside():
    latent = torch.arange(1.0, 2 * 4**3 + 1).reshape(1, 2, 4, 4, 4)
    chosen = torch.zeros(1, 4, 4, 4, dtype=torch.bool)
    chosen[0, 1, 2, 3] = True
    around = gather_neighbourhoods(latent, chosen).reshape(3, 3, 3, 2)
    expected = latent[0, :, 0:3, 1:4, 2:4].permute(1, 2, 3, 0)
    torch.testing.assert_close(around[:, :, :2], expected)
    assert not around[:, :, 2].any()  # beyond z = 3


def test_gather_takes_each_patch_from_its_own_grid():
    latent = torch.randn(3, 2, 4, 4, 4)
    chosen = torch.zeros(3, 4, 4, 4, dtype=torch.bool)
    chosen[:, 2, 2, 2] = True
    centres = gather_neighbourhoods(latent, chosen).reshape(3, 27, 2)[:, 13]
    torch.testing.assert_close(centres, latent[:, :, 2, 2, 2])


def test_latent_has_trelliss_shape_and_is_zero_where_nothing_is():
    encoder = SmallSparseStructureEncoder(channels=16, num_blocks=1).eval()
    occupancy = torch.zeros(2, 1, 64, 64, 64)
    occupancy[1, 0, 20, 40, 63] = 1
    latent = encoder(occupancy)
    assert latent.shape == (2, 8, 16, 16, 16)
    assert torch.nonzero(latent.abs().sum(dim=1)).tolist() == [[1, 5, 10, 15]]


def test_shape_moved_by_a_patch_has_its_latent_moved_by_one():
    encoder = SmallSparseStructureEncoder(channels=16, num_blocks=1).eval()
    occupancy = random_occupancy(1)
    moved = encoder(torch.roll(occupancy, 4, dims=3))
    torch.testing.assert_close(moved, torch.roll(encoder(occupancy), 1, dims=3), atol=1e-5, rtol=0)


def test_decoder_gives_logits_of_the_grids_shape_and_sees_only_neighbours():
    decoder = SmallSparseStructureDecoder(channels=16, num_blocks=1).eval()
    latent = 3 * torch.randn(1, 8, 16, 16, 16)
    changed = latent.clone()
    changed[:, :, 5, 5, 5] += 1
    logits, other = decoder(latent), decoder(changed)
    assert logits.shape == (1, 1, 64, 64, 64)
    patches = patchify((logits != other).float(), 4).any(dim=-1)[0]
    touched = torch.nonzero(patches.unflatten(0, (16, 16, 16)))
    assert touched.min() == 4
    assert touched.max() == 6


def test_latent_of_zeros_decodes_to_nothing():
    decoder = SmallSparseStructureDecoder(channels=16, num_blocks=1).eval()
    assert (decoder(torch.zeros(1, 8, 16, 16, 16)) < 0).all()


def test_committed_weights_fit_into_8_mb():
    assert sum(path.stat().st_size for path in WEIGHTS.glob("small_ss_*")) < 8e6


def test_occupied_patches_are_above_the_threshold_and_a_bare_offset_decodes_to_voxels(committed):
    encoder, decoder = committed
    sphere = trimesh.creation.icosphere(3, radius=0.3)
    grid = voxelize_surface(sphere.vertices, sphere.faces)
    latent = encoder(torch.from_numpy(grid)[None, None].float())
    occupied = latent.abs().sum(dim=1) > 0
    assert (latent.square().mean(dim=1)[occupied] > OCCUPIED_POWER).all()
    bare = torch.where(occupied[:, None], OFFSET, 0.0).expand(-1, 8, -1, -1, -1)
    assert (decoder(bare) > 0).any()


@pytest.mark.parametrize(
    "mesh",
    [
        trimesh.creation.icosphere(3, radius=0.45),
        trimesh.creation.torus(0.12, 0.04),
        trimesh.creation.box(
            (0.3, 0.25, 0.4), transform=trimesh.transformations.euler_matrix(0, 0, 0.5)
        ),
        trimesh.creation.cylinder(
            0.01, 0.7, transform=trimesh.transformations.euler_matrix(0.2, 0, 0)
        ),
    ],
    ids=["sphere", "small torus", "rotated box", "thin leg"],
)
def test_committed_weights_reconstruct_shapes_outside_the_training_set(committed, mesh):
    encoder, decoder = committed
    grid = torch.from_numpy(voxelize_surface(mesh.vertices, mesh.faces))
    with torch.inference_mode():
        decoded = decoder(encoder(grid[None, None].float()))[0, 0] > 0
    iou = (grid & decoded).sum() / (grid | decoded).sum()
    assert iou > 0.85


def test_batch_gives_each_grid_the_latent_it_has_alone(committed):
    encoder, decoder = committed
    occupancy = random_occupancy(2)
    with torch.inference_mode():
        together = encoder(occupancy)
        alone = torch.cat([encoder(one[None]) for one in occupancy])
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
        apart = torch.cat([decoder(one[None]) for one in together])
        np.testing.assert_allclose(decoder(together), apart, atol=1e-3)
