"""The latent model on a sampled scene: textured meshes, and Gaussians, of its instances."""

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

CUBES_A_VOXEL = 4
"""Along a side: the mesh decoder's grid is four times as fine as the voxels."""


@dataclass(frozen=True)
class LatentNetworks:
    """The structured-latent flow model and its decoders, on one device."""

    flow: SLatFlowModel
    mesh_decoder: SLatMeshDecoder
    gaussian_decoder: SLatGaussianDecoder | None
    """None: no Gaussians are wanted."""

    def check(self, resolution: int, cond_channels: int) -> None:
        """Check that the networks belong to the voxels and to the image tokens.

        Raises:
            ConfigError: one was made for others.
        """
        parts = (self.flow, self.mesh_decoder, self.gaussian_decoder)
        for part in parts:
            if part is not None and part.resolution != resolution:
                raise ConfigError(
                    f"--models structure latent: {type(part).__name__} is for voxels at "
                    f"{part.resolution}³, the structure model's decoder gives {resolution}³. "
                    "Expected networks of one publication; give another checkpoint."
                )
        if self.flow.cond_channels != cond_channels:
            raise ConfigError(
                "--models structure latent: the flow model of structured latents takes image "
                f"tokens of {self.flow.cond_channels} channels, the structure model gives "
                f"{cond_channels}. Expected both to use the same image encoder."
            )


@dataclass(frozen=True)
class Appearance:
    """What the latent model made of one instance."""

    mesh: TexturedMesh
    gaussians: Gaussians | None


@dataclass(frozen=True, kw_only=True)
class AppearanceConfig:
    """How surfaces become files."""

    keep_faces: float = 0.05
    """Share of the faces that decimation leaves. TRELLIS: 0.05."""
    texture_px: int = 1024
    """Side of a texture."""
    max_voxels: int = 100_000
    """Voxels in the flow model at once; an instance that has more goes alone."""


@torch.inference_mode()
def add_appearance(
    second: LatentNetworks,
    tokens: Tensor,
    occupied: NDArray[np.bool_],
    sampler: SamplerConfig,
    config: AppearanceConfig,
    seed: int,
) -> dict[int, Appearance]:
    """Return the appearance of each instance that has a voxel and a surface.

    Args:
        second: the networks.
        tokens: (N, T, C), of the instances' images: the structure model's own condition.
        occupied: (N, R, R, R), what the structure model sampled.
        sampler: steps and guidance, as of the structure model.
        config: size of meshes and textures.
        seed: of the noise, drawn on the CPU; the voxels of all instances share one draw.
    """
    started = time.monotonic()
    second.check(occupied.shape[-1], tokens.shape[-1])
    voxels = [torch.from_numpy(np.argwhere(grid)) for grid in occupied]
    latents = sample_structured_latents(
        second.flow,
        voxels,
        tokens,
        sampler,
        torch.Generator().manual_seed(seed),
        max_voxels=config.max_voxels,
    )
    sampled_s = time.monotonic() - started
    made = dict(_decode(second, latents, config))
    meshes = [one.mesh for one in made.values()]
    logger.info(
        f"infer: structured latents of {sum(len(one) for one in voxels)} voxels in "
        f"{sampled_s:.1f} s, {len(made)} surfaces in {time.monotonic() - started - sampled_s:.1f} s"
        f" ({sum(len(mesh.faces) for mesh in meshes)} faces of "
        f"{sum(mesh.num_source_faces for mesh in meshes)}, "
        f"{sum(mesh.watertight for mesh in meshes)} closed), {_peak_memory(tokens.device)}"
    )
    return made


def _decode(
    second: LatentNetworks, latents: list[StructuredLatents | None], config: AppearanceConfig
) -> Iterator[tuple[int, Appearance]]:
    for index, one in enumerate(latents):
        if one is None:
            continue
        sites = single_sites(one)
        feats, cubes = second.mesh_decoder(one.feats, sites)
        resolution = CUBES_A_VOXEL * second.mesh_decoder.resolution
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
        if second.gaussian_decoder is not None:
            raw = second.gaussian_decoder(one.feats, sites)
            [gaussians] = second.gaussian_decoder.gaussians(raw, sites)
        yield index, Appearance(textured, gaussians)


def _peak_memory(device: torch.device) -> str:
    """Return the most memory so far, of the GPU or of this process, in words."""
    if device.type == "cuda":
        return f"at most {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB of the GPU"
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"at most {kib / 2**20:.1f} GiB of memory"
