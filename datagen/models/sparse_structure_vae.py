"""TRELLIS's sparse-structure autoencoder: a 64³ occupancy grid to 8 channels at 16³ and back.

Parameter names are those of the published checkpoints; normalisation is over channels, in float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SparseStructureEncoder(nn.Module):
    """Encoder: occupancy grids to the mean of their latent distribution."""

    def __init__(
        self,
        in_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: list[int],
        num_res_blocks_middle: int = 2,
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.input_layer = nn.Conv3d(in_channels, channels[0], 3, padding=1)
        blocks: list[nn.Module] = []
        for level, width in enumerate(channels):
            blocks += [ResBlock3d(width) for _ in range(num_res_blocks)]
            if level + 1 < len(channels):
                blocks.append(DownsampleBlock3d(width, channels[level + 1]))
        self.blocks = nn.ModuleList(blocks)
        self.middle_block = _residual_stack(channels[-1], num_res_blocks_middle)
        self.out_layer = _out_layer(channels[-1], 2 * latent_channels)
        if use_fp16:
            convert_torso_to_fp16(self)

    def forward(self, occupancy: Tensor) -> Tensor:
        """Return the means (B, 8, R/4, R/4, R/4) of (B, 1, R, R, R), bool, or float 0 or 1."""
        return self.moments(occupancy)[0]

    def moments(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latents' mean and log-variance, (B, 8, R/4, R/4, R/4) each."""
        occupancy = occupancy.to(self.input_layer.weight.dtype)
        h = self.input_layer(occupancy).to(_torso_dtype(self.middle_block))
        for block in self.blocks:
            h = block(h)
        h = self.out_layer(self.middle_block(h).to(occupancy.dtype))
        mean, logvar = h.chunk(2, dim=1)
        return mean, logvar


class SparseStructureDecoder(nn.Module):
    """Decoder: latents to occupancy logits; a voxel is occupied where its logit is above 0."""

    def __init__(
        self,
        out_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: list[int],
        num_res_blocks_middle: int = 2,
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.input_layer = nn.Conv3d(latent_channels, channels[0], 3, padding=1)
        self.middle_block = _residual_stack(channels[0], num_res_blocks_middle)
        blocks: list[nn.Module] = []
        for level, width in enumerate(channels):
            blocks += [ResBlock3d(width) for _ in range(num_res_blocks)]
            if level + 1 < len(channels):
                blocks.append(UpsampleBlock3d(width, channels[level + 1]))
        self.blocks = nn.ModuleList(blocks)
        self.out_layer = _out_layer(channels[-1], out_channels)
        if use_fp16:
            convert_torso_to_fp16(self)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the logits (B, 1, 4r, 4r, 4r) of latents (B, 8, r, r, r)."""
        h = self.input_layer(latent).to(_torso_dtype(self.middle_block))
        h = self.middle_block(h)
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.out_layer(h.to(latent.dtype))
        return logits


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, X, Y, Z), computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, X, Y, Z) normalised, in the input's dtype."""
        last = x.float().movedim(1, -1)
        return super().forward(last).movedim(-1, 1).to(x.dtype)


class ResBlock3d(nn.Module):
    """Residual block of two convolutions, each after norm and SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm(channels)
        self.norm2 = ChannelLayerNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, X, Y, Z) after the block."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        y: Tensor = x + h
        return y


class DownsampleBlock3d(nn.Module):
    """Strided convolution that halves the resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C_out, X/2, Y/2, Z/2) for (B, C_in, X, Y, Z)."""
        y: Tensor = self.conv(x)
        return y


class UpsampleBlock3d(nn.Module):
    """Convolution to 8 times the channels, and a pixel shuffle that doubles the resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C_out, 2X, 2Y, 2Z) for (B, C_in, X, Y, Z)."""
        return pixel_shuffle_3d(self.conv(x), 2)


def pixel_shuffle_3d(x: Tensor, factor: int) -> Tensor:
    """Return (B, C, X·f, Y·f, Z·f) for (B, C·f³, X, Y, Z), where f is the factor."""
    B, C, X, Y, Z = x.shape
    f = factor
    x = x.reshape(B, C // f**3, f, f, f, X, Y, Z).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(B, C // f**3, X * f, Y * f, Z * f)


def convert_torso_to_fp16(model: nn.Module) -> None:
    """Store the torso's linear and convolution weights in half precision, as published."""
    for name, module in model.named_modules():
        in_torso = name.startswith(("blocks.", "middle_block."))
        if in_torso and isinstance(module, nn.Linear | nn.Conv3d):
            module.half()


def _residual_stack(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResBlock3d(channels) for _ in range(count)))


def _out_layer(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        ChannelLayerNorm(channels), nn.SiLU(), nn.Conv3d(channels, out_channels, 3, padding=1)
    )


def _torso_dtype(torso: nn.Module) -> torch.dtype:
    """Return the dtype of the torso's convolutions; its norms are always float32."""
    return next(m.weight.dtype for m in torso.modules() if isinstance(m, nn.Conv3d))
