"""A small autoencoder of sparse structures, with the interface and latent shape of TRELLIS's.

A grid of 64³ voxels is cut into 16³ patches of 4³. The encoder codes each occupied patch on its
own; the latent of an empty patch is exactly zero. The decoder reads a patch's latent and those of
its neighbours. So the cost of both grows with the surface. Latents are zero away from the surface,
and move with it by whole patches.

The latent of an occupied patch is its code plus ``OFFSET`` in every channel. Codes have mean zero.
Without the offset, a flow model that has learned where an object is, and not yet its shape, would
predict zero there, which means "empty", and its loss would not improve.

B batch, C latent channels, S side in patches, P patch side, N occupied patches, H hidden channels.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datagen.models.patches import unpatchify

OFFSET = 2.0
"""Added to the code of an occupied patch: one standard deviation of the codes."""

OCCUPIED_POWER = 0.5
"""A patch is occupied if its latent's mean square is above this, an eighth of OFFSET²."""

EMPTY_LOGIT = -10.0
"""Of every voxel in an empty patch."""


class ResidualBlock(nn.Module):
    """Residual MLP: norm, two linear layers with a SiLU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., H) after the block."""
        out: Tensor = x + self.narrow(F.silu(self.widen(self.norm(x))))
        return out


class SmallSparseStructureEncoder(nn.Module):
    """Encoder: occupancy grids to latents, patch by patch."""

    def __init__(
        self,
        latent_channels: int = 8,
        channels: int = 256,
        num_blocks: int = 2,
        patch_size: int = 4,
        latent_scale: float = 2.0,
    ) -> None:
        """Build the network; latent_scale is the codes' standard deviation."""
        super().__init__()
        self.latent_channels = latent_channels
        self.patch_size = patch_size
        self.latent_scale = latent_scale
        self.input_layer = nn.Linear(patch_size**3, channels)
        self.blocks = nn.Sequential(*[ResidualBlock(channels) for _ in range(num_blocks)])
        self.out_layer = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, latent_channels))
        # Fixes the scale: for any weights, codes have mean 0 and standard deviation 1.
        self.standardize = nn.BatchNorm1d(latent_channels, affine=False, momentum=0.02)

    def encode_patches(self, patches: Tensor) -> Tensor:
        """Return the codes (N, C) float32 of occupied patches (N, P³), float 0 or 1."""
        x = self.out_layer(self.blocks(self.input_layer(2 * patches - 1)))
        codes: Tensor = self.latent_scale * self.standardize(x.float())
        return codes

    def forward(self, occupancy: Tensor) -> Tensor:
        """Return the latents (B, 8, 16, 16, 16) float32 of occupancy grids; empty patches give 0.

        Args:
            occupancy: (B, 1, 64, 64, 64), bool, or float 0 or 1, canonical, axes x, y, z.
        """
        side = occupancy.shape[-1] // self.patch_size
        cut = occupancy.bool().reshape(-1, *[side, self.patch_size] * 3)
        occupied = any_of(any_of(cut, 2), 3).any(dim=4)
        latent = torch.zeros(*occupied.shape, self.latent_channels, device=occupancy.device)
        if occupied.any():
            # A scene repeats its instances' patches: in real scenes, two in five are distinct.
            patches = cut.permute(0, 1, 3, 5, 2, 4, 6)[occupied].flatten(1)
            distinct, place = unique_patches(patches)
            codes = self.encode_patches(distinct.to(self.input_layer.weight.dtype))
            latent[occupied] = (codes + OFFSET)[place]
        return latent.permute(0, 4, 1, 2, 3).contiguous()


def any_of(values: Tensor, dim: int) -> Tensor:
    """Return ``values.any(dim)`` of a tensor (...) with a short axis ``dim``.

    On a CPU this is a few times faster than torch.
    """
    return reduce(torch.logical_or, values.unbind(dim))


def unique_patches(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct patches (M, P³) among (N, P³) bool, and the row of each there (N,)."""
    bits = torch.arange(patches.shape[1], device=patches.device)
    assert len(bits) <= 64, patches.shape
    words = (patches.long() << bits).sum(dim=-1)
    found, place = torch.unique(words, return_inverse=True)
    return (found[:, None] >> bits & 1).bool(), place


class SmallSparseStructureDecoder(nn.Module):
    """Decoder: latents to occupancy logits, each patch from the 3³ latents around it."""

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
        """Return the logits (N, P³) of patches with neighbourhoods (N, 27·C)."""
        logits: Tensor = self.out_layer(self.blocks(self.input_layer(neighbourhoods)))
        return logits

    def forward(self, latent: Tensor) -> Tensor:
        """Return the logits (B, 1, 64, 64, 64) of latents (B, 8, 16, 16, 16); > 0 is occupied."""
        occupied = latent.square().mean(dim=1) > OCCUPIED_POWER
        kept = latent * occupied[:, None]
        patches = latent.new_full((*occupied.shape, self.patch_size**3), EMPTY_LOGIT)
        # One grid at a time, so that its hidden layers fit into the processor's cache.
        decoded = [
            self.decode_neighbourhoods(gather_neighbourhoods(one[None], chosen[None]))
            for one, chosen in zip(kept, occupied, strict=True)
        ]
        patches[occupied] = torch.cat(decoded).to(latent.dtype)
        return unpatchify(patches.flatten(1, 3), self.patch_size, patches.shape[1])


def gather_neighbourhoods(latent: Tensor, chosen: Tensor) -> Tensor:
    """Return the latents of chosen patches and of the 26 around each, zero outside the grid.

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
