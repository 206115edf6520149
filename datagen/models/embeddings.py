"""Embeddings of noise times and of positions in a grid, as TRELLIS's networks use them.

Parameter names are those of the published checkpoints.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TimestepEmbedder(nn.Module):
    """Embedding of noise times: cosines and sines, then two linear layers."""

    def __init__(self, channels: int, num_frequencies: int = 256) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.mlp = nn.Sequential(
            nn.Linear(num_frequencies, channels), nn.SiLU(), nn.Linear(channels, channels)
        )

    def forward(self, t_times_1000: Tensor) -> Tensor:
        """Return the embeddings (B, C) of noise times (B,), each times 1000."""
        half = self.num_frequencies // 2
        steps = torch.arange(half, dtype=torch.float32, device=t_times_1000.device)
        angles = t_times_1000[:, None].float() * torch.exp(-math.log(10000) * steps / half)
        embedded: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))
        return embedded


def position_embedding(coords: Tensor, channels: int) -> Tensor:
    """Return the embeddings (N, channels) float32 of coordinates (N, 3), int or float.

    Each axis has ``channels // 6`` frequencies, with their sines, then their cosines. Channels left
    over are zero.
    """
    num_frequencies = channels // 3 // 2
    steps = torch.arange(num_frequencies, dtype=torch.float32, device=coords.device)
    angles = coords.float()[..., None] * 10000 ** -(steps / num_frequencies)
    embedding = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return F.pad(embedding, (0, channels - embedding.shape[1]))


def grid_position_embedding(side: int, channels: int) -> Tensor:
    """Return the embeddings (side³, channels) float32 of a grid's cells, z fastest."""
    axes = torch.meshgrid(*(torch.arange(side, dtype=torch.float32),) * 3, indexing="ij")
    return position_embedding(torch.stack(axes, dim=-1).reshape(-1, 3), channels)
