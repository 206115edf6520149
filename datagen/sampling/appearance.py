"""Appearance of a sampled scene's instances, from the latent model: textured meshes, Gaussians.

Shapes: N instances, R voxels along a side, T tokens, C channels.
"""

import logging
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datagen.errors import ConfigError
from datagen.models import SLatFlowModel, SLatGaussianDecoder, SLatMeshDecoder
from datagen.models.structured_latent_decoders import Gaussians
from datagen.sampling.cube_mesh import extract_mesh
from datagen.sampling.scenes import SamplerConfig
from datagen.sampling.structured_latents import (
    StructuredLatents,
    sample_structured_latents,
    single_sites,
)
from datagen.sampling.textured_mesh import TexturedMesh, bake

logger = logging.getLogger(__name__)

CUBES_PER_VOXEL = 4
"""Along a side, in the mesh decoder's grid."""


@dataclass(frozen=True)
class LatentNetworks:
    """The networks of the latent model: its flow model and its decoders, on one device."""

    flow: SLatFlowModel
    mesh_decoder: SLatMeshDecoder
    gaussian_decoder: SLatGaussianDecoder | None
    """None: no Gaussians are made."""

    def check(self, resolution: int, cond_channels: int) -> None:
        """Check that the networks fit the structure model.

        Args:
            resolution: R, of its voxels.
            cond_channels: C, of its image tokens.

        Raises:
            ConfigError: a network was trained for other voxels or other image tokens.
        """
        parts = (self.flow, self.mesh_decoder, self.gaussian_decoder)
        for part in parts:
            if part is not None and part.resolution != resolution:
                raise ConfigError(
                    f"--models structure latent: {type(part).__name__} is for voxels at "
                    f"{part.resolution}³, the structure model's decoder gives {resolution}³. "
                    "Expected networks that were published together; give another checkpoint."
                )
        if self.flow.cond_channels != cond_channels:
            raise ConfigError(
                "--models structure latent: the flow model of structured latents takes image "
                f"tokens of {self.flow.cond_channels} channels, the structure model gives "
                f"{cond_channels}. Expected both to use the same image encoder."
            )


@dataclass(frozen=True)
class Appearance:
    """The latent model's output for one instance."""

    mesh: TexturedMesh
    gaussians: Gaussians | None
    """None: there is no Gaussian decoder."""


@dataclass(frozen=True, kw_only=True)
class AppearanceConfig:
    """Size of meshes and textures, and of the batches that are sampled."""

    keep_faces: float = 0.05
    """Share of the faces that decimation leaves. TRELLIS: 0.05."""
    texture_px: int = 1024
    """Width and height of a texture."""
    max_voxels: int = 100_000
    """Voxels in the flow model at once; an instance with more is sampled alone."""


@torch.inference_mode()
def add_appearance(
    networks: LatentNetworks,
    tokens: Tensor,
    occupied: NDArray[np.bool_],
    sampler: SamplerConfig,
    config: AppearanceConfig,
    seed: int,
) -> dict[int, Appearance]:
    """Return the appearance of each instance that has a voxel and a surface, by its index.

    Args:
        networks: of the latent model.
        tokens: (N, T, C), of the instances' images, as the structure model was conditioned on.
        occupied: (N, R, R, R), voxels from the structure model.
        sampler: steps and guidance, the structure model's.
        config: size of meshes, textures and batches.
        seed: of the noise. It is drawn on the CPU, once for the voxels of all instances.

    Raises:
        ConfigError: the networks do not fit the voxels or tokens, or a library of the extra
            ``textures`` is not installed.
    """
    started = time.monotonic()
    networks.check(occupied.shape[-1], tokens.shape[-1])
    voxels = [torch.from_numpy(np.argwhere(grid)) for grid in occupied]
    latents = sample_structured_latents(
        networks.flow,
        voxels,
        tokens,
        sampler,
        torch.Generator().manual_seed(seed),
        max_voxels=config.max_voxels,
    )
    sampled_s = time.monotonic() - started
    made = dict(_decode(networks, latents, config))
    meshes = [one.mesh for one in made.values()]
    logger.info(
        f"infer: structured latents of {sum(len(one) for one in voxels)} voxels in "
        f"{sampled_s:.1f} s, {len(made)} surfaces in {time.monotonic() - started - sampled_s:.1f} s"
        f" ({sum(len(mesh.faces) for mesh in meshes)} faces of "
        f"{sum(mesh.num_source_faces for mesh in meshes)}, "
        f"{sum(mesh.watertight for mesh in meshes)} watertight), {_peak_memory(tokens.device)}"
    )
    return made


def _decode(
    networks: LatentNetworks, latents: list[StructuredLatents | None], config: AppearanceConfig
) -> Iterator[tuple[int, Appearance]]:
    for index, one in enumerate(latents):
        if one is None:
            continue
        sites = single_sites(one)
        feats, cubes = networks.mesh_decoder(one.feats, sites)
        resolution = CUBES_PER_VOXEL * networks.mesh_decoder.resolution
        mesh = extract_mesh(cubes.coords[:, 1:].long(), feats, resolution, closed=True)
        if not len(mesh.faces):
            logger.warning(f"infer: instance {index} has {len(one.coords)} voxels, no surface")
            continue
        colors = torch.full_like(mesh.vertices, 0.7) if mesh.colors is None else mesh.colors[:, :3]
        textured = bake(
            mesh.vertices.cpu().numpy(),
            mesh.faces.cpu().numpy(),
            colors.cpu().numpy(),
            keep_faces=config.keep_faces,
            texture_px=config.texture_px,
        )
        gaussians = None
        if networks.gaussian_decoder is not None:
            raw = networks.gaussian_decoder(one.feats, sites)
            [gaussians] = networks.gaussian_decoder.gaussians(raw, sites)
        yield index, Appearance(textured, gaussians)


def _peak_memory(device: torch.device) -> str:
    """Return in words the peak memory so far, of the GPU or of this process."""
    if device.type == "cuda":
        return f"at most {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB of the GPU"
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"at most {kib / 2**20:.1f} GiB of memory"
