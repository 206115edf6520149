"""TRELLIS's decoders of structured latents: to the cubes of a mesh, and to Gaussians.

Shape suffixes: N sites, C channels, H heads, D head channels, G Gaussians of one object. Parameter
names are those of the published checkpoints.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datagen.models.attention import FeedForward, SelfAttention
from datagen.models.embeddings import position_embedding
from datagen.models.sparse import (
    Sites,
    SparseConv3d,
    SparseGroupNorm,
    attend_in_groups,
    subdivide,
)
from datagen.models.structured_latent_flow import (
    convert_to_fp16,
    layer_norm,
    project_qkv,
    torso_dtype,
)
from datagen.views.directions import radical_inverse


class SparseTransformer(nn.Module):
    """Base of the encoder and decoders: attention in windows, shifted in every second block."""

    def __init__(
        self,
        resolution: int,
        model_channels: int,
        latent_channels: int,
        num_blocks: int,
        num_heads: int | None = None,
        num_head_channels: int = 64,
        mlp_ratio: float = 4,
        attn_mode: Literal["swin"] = "swin",
        window_size: int = 8,
        pe_mode: Literal["ape"] = "ape",
        use_fp16: bool = False,
        qk_rms_norm: bool = False,
        representation_config: dict[str, Any] | None = None,
    ) -> None:
        """Build with the published arguments, which the encoder and all decoders share."""
        super().__init__()
        self.resolution, self.window_size, self.use_fp16 = resolution, window_size, use_fp16
        self.config = representation_config or {}
        num_heads = num_heads or model_channels // num_head_channels
        self.input_layer = nn.Linear(latent_channels, model_channels)
        self.blocks = nn.ModuleList(
            WindowBlock(model_channels, num_heads, mlp_ratio) for _ in range(num_blocks)
        )

    def transform(self, feats: Tensor, sites: Sites) -> Tensor:
        """Return features (N, C), in the dtype of the blocks, for latents (N, 8)."""
        h: Tensor = self.input_layer(feats)
        h = h + position_embedding(sites.coords[:, 1:], h.shape[1])
        h = h.to(torso_dtype(self.blocks))
        for index, block in enumerate(self.blocks):
            shift = self.window_size // 2 * (index % 2)
            h = block(h, sites, self.window_size, shift)
        return h


class WindowBlock(nn.Module):
    """Self-attention within each window, and feed-forward, with a norm before each."""

    def __init__(self, channels: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attn = SelfAttention(channels, num_heads, qk_rms_norm=False)
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, x: Tensor, sites: Sites, window_size: int, shift: int) -> Tensor:
        """Return features (N, C) after the block.

        Args:
            x: (N, C).
            sites: of the N features.
            window_size: cells along a window's side.
            shift: cells by which the windows are moved, along each axis.
        """
        q, k, v = project_qkv(self.attn, layer_norm(x))
        attended = attend_in_groups(q, k, v, sites.windows(window_size, shift))
        x = x + self.attn.to_out(attended.flatten(1))
        y: Tensor = x + self.mlp(layer_norm(x))
        return y


class SLatMeshDecoder(SparseTransformer):
    """Latents to the cubes of a mesh: 64 cubes per voxel, at four times the resolution."""

    def __init__(self, **published: Any) -> None:
        """Build with the published arguments: see ``SparseTransformer``."""
        super().__init__(**published)
        model_channels = self.input_layer.out_features
        self.use_color = bool(self.config.get("use_color", False))
        quarter, eighth = model_channels // 4, model_channels // 8
        self.upsample = nn.ModuleList(
            [SubdivideBlock(model_channels, quarter), SubdivideBlock(quarter, eighth)]
        )
        self.out_layer = nn.Linear(eighth, 101 if self.use_color else 53)
        if self.use_fp16:
            convert_to_fp16(self.blocks, self.upsample)

    def forward(self, feats: Tensor, sites: Sites) -> tuple[Tensor, Sites]:
        """Return cube features (64 N, 101) and the cubes, at four times the resolution.

        The channels are sdf 8, deform 8·3, weights 21 and, with colours, 8·6; without them there
        are 53. ``datagen.sampling.cube_mesh`` reads them.

        Args:
            feats: (N, 8), latents.
            sites: of the N latents.
        """
        h = self.transform(feats, sites)
        for block in self.upsample:
            h, sites = block(h, sites)
        return self.out_layer(h.to(feats.dtype)), sites


class SubdivideBlock(nn.Module):
    """Residual block that cuts each cell into 8: two convolutions on the children."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        second = SparseConv3d(out_channels, out_channels)
        nn.init.zeros_(second.conv.weight)
        self.act_layers = nn.ModuleList([SparseGroupNorm(32, channels), nn.SiLU()])
        self.out_layers = nn.ModuleList(
            [
                SparseConv3d(channels, out_channels),
                SparseGroupNorm(32, out_channels),
                nn.SiLU(),
                second,
            ]
        )
        self.skip_connection: nn.Module = nn.Identity()
        if channels != out_channels:
            self.skip_connection = SparseConv3d(channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor, sites: Sites) -> tuple[Tensor, Sites]:
        """Return features (8 N, C_out) on the children, and the children, for features (N, C)."""
        first, norm, _, second = self.out_layers
        assert isinstance(first, SparseConv3d)
        # Eight copies have the same statistics, so the norm comes before the cells are cut.
        h = F.silu(self.act_layers[0](x, sites))
        children = subdivide(sites)
        h = F.silu(norm(first.on_children(h, sites), children))
        h = second(h, children)
        if isinstance(self.skip_connection, SparseConv3d):
            # Kernel size 1 works on each site alone, so it may come before the copies are made.
            x = self.skip_connection(x, sites)
        out: Tensor = h + x.repeat_interleave(8, dim=0)
        return out, children


@dataclass(frozen=True)
class Gaussians:
    """Gaussians of one object, activated, in canonical space (z_up, [-0.5, 0.5]³)."""

    xyz: Tensor
    """(G, 3): centres."""
    scaling: Tensor
    """(G, 3): standard deviations along each Gaussian's own axes."""
    rotation: Tensor
    """(G, 4): unit quaternions, w x y z."""
    opacity: Tensor
    """(G, 1), in [0, 1]."""
    features: Tensor
    """(G, 1, 3): spherical harmonics of degree 0; colour = 0.5 + 0.28209479 · feature."""


class SLatGaussianDecoder(SparseTransformer):
    """Latents to a fixed number of Gaussians per voxel."""

    def __init__(self, **published: Any) -> None:
        """Build with the published arguments: see ``SparseTransformer``."""
        super().__init__(**published)
        count = self.config["num_gaussians"]
        self.offset_perturbation: Tensor
        self.register_buffer("offset_perturbation", self._perturbation(count))
        model_channels = self.input_layer.out_features
        self.out_layer = nn.Linear(model_channels, sum(_widths(count).values()))
        if self.use_fp16:
            convert_to_fp16(self.blocks)

    def forward(self, feats: Tensor, sites: Sites) -> Tensor:
        """Return the raw channels (N, 14 · num_gaussians) of latents (N, 8), for ``gaussians``."""
        h = self.transform(feats, sites).to(feats.dtype)
        out: Tensor = self.out_layer(F.layer_norm(h, h.shape[-1:]))
        return out

    def gaussians(self, raw: Tensor, sites: Sites) -> list[Gaussians]:
        """Return the activated Gaussians of each sample from raw channels (N, 14 · num_gaussians).

        Activations are those of TRELLIS's decoder and Gaussian model: a tanh keeps centres within
        1.5 voxels, a softplus with a smallest size gives standard deviations, a sigmoid opacities.
        """
        raw = raw.float()
        rate, count = self.config["lr"], self.config["num_gaussians"]
        widths = _widths(count)
        xyz, features, scaling, rotation, opacity = (
            torch.unflatten(part, 1, (count, -1)) * rate[name]
            for name, part in zip(widths, torch.split(raw, [*widths.values()], 1), strict=True)
        )
        perturbation = self.offset_perturbation if self.config["perturb_offset"] else 0.0
        offset = torch.tanh(xyz + perturbation) * 0.5 * self.config["voxel_size"]
        centre = sites.coords[:, None, 1:].float() + 0.5
        activated = {
            "xyz": (centre + offset) / self.resolution - 0.5,
            "scaling": self._sizes(scaling),
            "rotation": F.normalize(rotation + rotation.new_tensor([1.0, 0, 0, 0]), dim=-1),
            "opacity": torch.sigmoid(opacity + _logit(self.config["opacity_bias"])),
            "features": features,
        }
        return [self._of_sample(activated, sites.sample == b) for b in range(sites.num_samples)]

    def _of_sample(self, activated: dict[str, Tensor], chosen: Tensor) -> Gaussians:
        parts = {name: values[chosen].flatten(0, 1) for name, values in activated.items()}
        parts["features"] = parts["features"][:, None]
        return Gaussians(**parts)

    def _sizes(self, scaling: Tensor) -> Tensor:
        bias = self.config["scaling_bias"]
        inverse_softplus = bias + math.log(-math.expm1(-bias))
        least = self.config["3d_filter_kernel_size"]
        return torch.sqrt(F.softplus(scaling + inverse_softplus).square() + least**2)

    def _perturbation(self, count: int) -> Tensor:
        """Return atanh of a Hammersley sequence (count, 3) that fills the voxel."""
        index = np.arange(count)
        points = np.column_stack(
            [index / count, radical_inverse(index, 2), radical_inverse(index, 3)]
        )
        return torch.atanh((2 * torch.tensor(points).float() - 1) / self.config["voxel_size"])


def _widths(count: int) -> dict[str, int]:
    """Return how many channels each property has, in their order."""
    names = {"_xyz": 3, "_features_dc": 3, "_scaling": 3, "_rotation": 4, "_opacity": 1}
    return {name: count * width for name, width in names.items()}


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
