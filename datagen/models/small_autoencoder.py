"""A small autoencoder of sparse structures, with the interface and latent shape of TRELLIS's.

A grid of 64³ voxels is cut into 16³ patches of 4³. The encoder codes each occupied patch by itself;
an empty patch has the latent zero, exactly. The decoder reads a patch's latent and its neighbours'.
So the work of both grows with the surface, and what a flow model learns is zero but for the
surface, and moves with it by whole patches.

The latent of an occupied patch is its code plus ``OFFSET`` in every channel. Codes have mean zero:
without the offset a flow model that knows where a thing is, but not yet its shape, would predict
zero there, which is "empty", and learn nothing from knowing.

B batch, C latent channels, S side in patches, P patch side, N occupied patches, H hidden.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OFFSET = 2.0
"""What the latent of an occupied patch has on top of its code: one spread of the codes."""

OCCUPIED_POWER = 0.5
"""A patch is occupied if its latent's mean square is above this: an eighth of OFFSET²."""

EMPTY_LOGIT = -10.0


def patchify(occupancy: Tensor, patch_size: int) -> Tensor:
    """Cut (B, 1, S·P, S·P, S·P) into patches (B, S, S, S, P³), x, y, z in both."""
    batch, side = occupancy.shape[0], occupancy.shape[-1] // patch_size
    cut = occupancy.reshape(batch, *[side, patch_size] * 3)
    return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, side, side, side, patch_size**3)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """Join patches (B, S, S, S, P³) into (B, 1, S·P, S·P, S·P); the inverse of ``patchify``."""
    batch, side = patches.shape[:2]
    cut = patches.reshape(batch, *[side] * 3, *[patch_size] * 3).permute(0, 1, 4, 2, 5, 3, 6)
    return cut.reshape(batch, 1, *[side * patch_size] * 3)


class ResidualBlock(nn.Module):
    """Normalise, widen, narrow, add: a transformer's MLP without the attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., H) to (..., H)."""
        out: Tensor = x + self.narrow(F.silu(self.widen(self.norm(x))))
        return out


class SmallSparseStructureEncoder(nn.Module):
    """Occupancy to latent, patch by patch."""

    def __init__(
        self,
        latent_channels: int = 8,
        channels: int = 256,
        num_blocks: int = 2,
        patch_size: int = 4,
        latent_scale: float = 2.0,
    ) -> None:
        """Build the network; latent_scale is the latent's spread over occupied patches."""
        super().__init__()
        self.latent_channels = latent_channels
        self.patch_size = patch_size
        self.latent_scale = latent_scale
        self.input_layer = nn.Linear(patch_size**3, channels)
        self.blocks = nn.Sequential(*[ResidualBlock(channels) for _ in range(num_blocks)])
        self.out_layer = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, latent_channels))
        # Fixes the scale: whatever the weights, occupied patches have mean 0 and spread 1.
        self.standardize = nn.BatchNorm1d(latent_channels, affine=False, momentum=0.02)

    def encode_patches(self, patches: Tensor) -> Tensor:
        """Return the latents (N, C) of occupied patches (N, P³), float 0 or 1."""
        x = self.out_layer(self.blocks(self.input_layer(2 * patches - 1)))
        latents: Tensor = self.latent_scale * self.standardize(x.float())
        return latents

    def forward(self, occupancy: Tensor, sample_posterior: bool = False) -> Tensor:
        """Return the latent of an occupancy grid.

        Args:
            occupancy: (B, 1, 64, 64, 64), bool, or float 0 or 1, canonical, x, y, z.
            sample_posterior: accepted as in TRELLIS; there is no posterior, the mean is returned.

        Returns:
            (B, 8, 16, 16, 16) float32; zero where the patch is empty.
        """
        side = occupancy.shape[-1] // self.patch_size
        cut = occupancy.bool().reshape(-1, *[side, self.patch_size] * 3)
        occupied = any_of(any_of(cut, 2), 3).any(dim=4)
        latent = torch.zeros(*occupied.shape, self.latent_channels, device=occupancy.device)
        if occupied.any():
            # The scene's patches are its instances' over again: of real scenes, two in five differ.
            patches = cut.permute(0, 1, 3, 5, 2, 4, 6)[occupied].flatten(1)
            different, place = unique_patches(patches)
            codes = self.encode_patches(different.to(self.input_layer.weight.dtype))
            latent[occupied] = (codes + OFFSET)[place]
        return latent.permute(0, 4, 1, 2, 3).contiguous()


def any_of(values: Tensor, dim: int) -> Tensor:
    """Return ``values.any(dim)`` of a short axis: a few times faster than torch's on a CPU."""
    return reduce(torch.logical_or, values.unbind(dim))


def unique_patches(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return the different ones (M, P³) among patches (N, P³) bool, and which each is (N,)."""
    bits = torch.arange(patches.shape[1], device=patches.device)
    assert len(bits) <= 64, patches.shape
    words = (patches.long() << bits).sum(dim=-1)
    found, place = torch.unique(words, return_inverse=True)
    return (found[:, None] >> bits & 1).bool(), place


class SmallSparseStructureDecoder(nn.Module):
    """Latent to occupancy logits; a patch sees its 3³ neighbours' latents."""

    def __init__(
        self,
        latent_channels: int = 8,
        channels: int = 256,
        num_blocks: int = 3,
        patch_size: int = 4,
    ) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.patch_size = patch_size
        self.input_layer = nn.Linear(27 * latent_channels, channels)
        self.blocks = nn.Sequential(*[ResidualBlock(channels) for _ in range(num_blocks)])
        self.out_layer = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, patch_size**3))

    def decode_neighbourhoods(self, neighbourhoods: Tensor) -> Tensor:
        """Return logits (N, P³) of patches from their neighbourhoods (N, 27·C)."""
        logits: Tensor = self.out_layer(self.blocks(self.input_layer(neighbourhoods)))
        return logits

    def forward(self, latent: Tensor) -> Tensor:
        """Return logits (B, 1, 64, 64, 64), occupied where > 0, of a latent (B, 8, 16, 16, 16)."""
        occupied = latent.square().mean(dim=1) > OCCUPIED_POWER
        heard = latent * occupied[:, None]
        patches = latent.new_full((*occupied.shape, self.patch_size**3), EMPTY_LOGIT)
        # One grid at a time: what its hidden layers take is what fits a processor's cache.
        decoded = [
            self.decode_neighbourhoods(gather_neighbourhoods(one[None], chosen[None]))
            for one, chosen in zip(heard, occupied, strict=True)
        ]
        patches[occupied] = torch.cat(decoded).to(latent.dtype)
        return unpatchify(patches, self.patch_size)


def gather_neighbourhoods(latent: Tensor, chosen: Tensor) -> Tensor:
    """Gather the latents of chosen patches and of the 26 around each, zero outside the grid.

    Args:
        latent: (B, C, S, S, S).
        chosen: (B, S, S, S), bool, N of them true.

    Returns:
        (N, 27·C): neighbours in x, y, z order, channels fastest.
    """
    channels, side = latent.shape[1], latent.shape[-1] + 2
    padded = F.pad(latent, (1, 1, 1, 1, 1, 1)).permute(0, 2, 3, 4, 1).reshape(-1, channels)
    grid, x, y, z = chosen.nonzero(as_tuple=True)
    corner = ((grid * side + x) * side + y) * side + z
    step = torch.arange(3, device=latent.device)
    offsets = ((step[:, None, None] * side + step[:, None]) * side + step).flatten()
    rows = (corner[:, None] + offsets).flatten()
    return padded.index_select(0, rows).reshape(-1, 27 * channels)
