"""TRELLIS's image-conditioned flow transformer over sparse-structure latents.

Shape suffixes: B batch, G grids (slots) of one sample, L tokens, C channels, T condition tokens.
Parameter names are those of the published checkpoints.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from datagen.models.attention import BlockShape, ModulatedTransformerCrossBlock
from datagen.models.sparse_structure_vae import convert_torso_to_fp16

MIN_T = 0.05
"""Below this noise time the division by t that turns an x_0 into a velocity is held."""


class SparseStructureFlowModel(nn.Module):
    """Velocity of a noisy latent, given its time and the tokens of an image."""

    def __init__(
        self,
        resolution: int,
        in_channels: int,
        model_channels: int,
        cond_channels: int,
        out_channels: int,
        num_blocks: int,
        num_heads: int,
        mlp_ratio: float = 4,
        patch_size: int = 2,
        pe_mode: Literal["ape"] = "ape",
        use_fp16: bool = False,
        qk_rms_norm: bool = False,
        predicts: Literal["velocity", "x_0"] = "velocity",
        data_std: float = 1.0,
    ) -> None:
        """Build with the published arguments; the last two are this project's own.

        With ``predicts`` "x_0" the transformer's output is the clean latent, from which the
        velocity follows: clean latents lie near a low-dimensional set that few wide patches can
        carry, noise does not. Its input is scaled by ``_input_gain``; ``data_std`` is the spread
        of clean latents. The model is called alike and gives a velocity either way.
        """
        super().__init__()
        self.resolution, self.patch_size = resolution, patch_size
        self.predicts, self.data_std = predicts, data_std
        self.scene_context_blocks = range(0)
        self.use_checkpoint = False
        """Compute blocks again in the backward pass instead of keeping what is in them."""
        self.t_embedder = TimestepEmbedder(model_channels)
        self.pos_emb: Tensor
        self.register_buffer(
            "pos_emb", position_embedding(resolution // patch_size, model_channels)
        )
        self.input_layer = nn.Linear(in_channels * patch_size**3, model_channels)
        shape = BlockShape(model_channels, cond_channels, num_heads, mlp_ratio, qk_rms_norm)
        self.blocks = nn.ModuleList(
            ModulatedTransformerCrossBlock(shape) for _ in range(num_blocks)
        )
        self.out_layer = nn.Linear(model_channels, out_channels * patch_size**3)
        _initialize(self)
        if use_fp16:
            convert_torso_to_fp16(self)

    def forward(self, x: Tensor, t_times_1000: Tensor, cond: Tensor) -> Tensor:
        """Return the velocity (B, 8, R, R, R) of ``x`` at t (B,), given tokens (B, T, C)."""
        return self.predict_grids(x[:, None], t_times_1000, cond[:, None])[:, 0]

    def predict_grids(
        self, x: Tensor, t_times_1000: Tensor, cond_BGTC: Tensor, num_targets: int = 0
    ) -> Tensor:
        """Return the velocities (B, G, 8, R, R, R) of several grids that share their time.

        In ``scene_context_blocks`` the first ``num_targets`` grids see the others as well.
        """
        if self.predicts == "velocity":
            return self._transform(x, t_times_1000, cond_BGTC, num_targets)
        t = (t_times_1000 / 1000).reshape(-1, 1, 1, 1, 1, 1)
        guess = x * self._input_gain(t)
        x_0 = self.data_std * self._transform(guess, t_times_1000, cond_BGTC, num_targets)
        # x_t = (1 - t) x_0 + t ε and v = ε - x_0, so v = (x_t - x_0) / t.
        velocity: Tensor = (x - x_0) / t.clamp(min=MIN_T)
        return velocity

    def _input_gain(self, t: Tensor) -> Tensor:
        """Return what makes x_t the best linear guess of x_0 / data_std (Wiener's gain).

        It is 0 at t = 1: pure noise says nothing, and at full strength it drowns the condition.
        """
        signal = (1 - t) * self.data_std
        return signal / (signal**2 + t**2)

    def _transform(
        self, x: Tensor, t_times_1000: Tensor, cond_BGTC: Tensor, num_targets: int
    ) -> Tensor:
        """Map grids (B, G, 8, R, R, R) to grids: cut, embed, transform, join."""
        B, G = x.shape[:2]
        tokens = patchify(x.flatten(0, 1), self.patch_size)
        h = self.input_layer(tokens).reshape(B, G, *self.pos_emb.shape) + self.pos_emb
        h = self._run_blocks(h, self.t_embedder(t_times_1000), cond_BGTC, num_targets)
        h = self.out_layer(F.layer_norm(h, h.shape[-1:]))
        side = self.resolution // self.patch_size
        return unpatchify(h.flatten(0, 1), self.patch_size, side).reshape(x.shape)

    def _run_blocks(
        self, h_BGLC: Tensor, t_BC: Tensor, cond_BGTC: Tensor, num_targets: int
    ) -> Tensor:
        """Run the blocks in the torso's precision."""
        dtype = next(m.weight.dtype for m in self.blocks.modules() if isinstance(m, nn.Linear))
        h, t, cond = h_BGLC.to(dtype), t_BC.to(dtype), cond_BGTC.to(dtype)
        for index, block in enumerate(self.blocks):
            arguments = (h, t, cond, num_targets if index in self.scene_context_blocks else 0)
            if self.use_checkpoint and torch.is_grad_enabled():
                h = checkpoint(block, *arguments, use_reentrant=False)
            else:
                h = block(*arguments)
        return h.to(h_BGLC.dtype)


class TimestepEmbedder(nn.Module):
    """Embed t·1000 by cosines and sines, then two linear layers."""

    def __init__(self, channels: int, num_frequencies: int = 256) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.mlp = nn.Sequential(
            nn.Linear(num_frequencies, channels), nn.SiLU(), nn.Linear(channels, channels)
        )

    def forward(self, t_times_1000: Tensor) -> Tensor:
        half = self.num_frequencies // 2
        steps = torch.arange(half, dtype=torch.float32, device=t_times_1000.device)
        angles = t_times_1000[:, None].float() * torch.exp(-math.log(10000) * steps / half)
        embedded: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))
        return embedded


def position_embedding(side: int, channels: int) -> Tensor:
    """Return (side³, channels): sines and cosines of x, y and z in C order, zeros to the end."""
    axes = torch.meshgrid(*(torch.arange(side, dtype=torch.float32),) * 3, indexing="ij")
    coords = torch.stack(axes, dim=-1).reshape(-1, 3)
    num_frequencies = channels // 3 // 2
    frequencies = 10000 ** -(torch.arange(num_frequencies, dtype=torch.float32) / num_frequencies)
    angles = coords[..., None] * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return F.pad(embedding, (0, channels - embedding.shape[1]))


def patchify(x: Tensor, patch_size: int) -> Tensor:
    """Cut (B, C, R, R, R) into tokens (B, (R/p)³, C·p³), features ordered (C, px, py, pz)."""
    B, C, R = x.shape[:3]
    p, r = patch_size, R // patch_size
    x = x.reshape(B, C, r, p, r, p, r, p).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return x.reshape(B, r**3, C * p**3)


def unpatchify(tokens: Tensor, patch_size: int, side: int) -> Tensor:
    """Invert ``patchify``: (B, side³, C·p³) to (B, C, side·p, side·p, side·p)."""
    B, p, r = tokens.shape[0], patch_size, side
    x = tokens.reshape(B, r, r, r, -1, p, p, p).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return x.reshape(B, -1, r * p, r * p, r * p)


def _initialize(model: SparseStructureFlowModel) -> None:
    """Xavier weights; modulation and output start at zero, so that the model starts at 0."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        nn.init.zeros_(module.bias)
        if name == "out_layer" or "adaLN_modulation" in name:
            nn.init.zeros_(module.weight)
        elif name.startswith("t_embedder"):
            nn.init.normal_(module.weight, std=0.02)
        else:
            nn.init.xavier_uniform_(module.weight)
