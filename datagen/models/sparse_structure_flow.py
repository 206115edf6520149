"""TRELLIS's image-conditioned flow transformer over sparse-structure latents.

Shape suffixes: B batch, G grids (slots) of one sample, L tokens of a grid, T condition tokens,
C channels, R latent side.
Parameter names are those of the published checkpoints.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from datagen.models.attention import BlockShape, ModulatedTransformerCrossBlock
from datagen.models.embeddings import TimestepEmbedder, grid_position_embedding
from datagen.models.patches import patchify, unpatchify
from datagen.models.sparse_structure_vae import convert_torso_to_fp16

MIN_T = 0.05
"""Smallest noise time by which a predicted x_0 is divided to get a velocity."""


class SparseStructureFlowModel(nn.Module):
    """Velocity of a noisy latent, given its noise time and the tokens of an image."""

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
        """Build with the published arguments, and with two of this project.

        Args:
            resolution: R.
            in_channels: of the latent.
            model_channels: of the tokens.
            cond_channels: of the image tokens.
            out_channels: of the velocity.
            num_blocks: transformer blocks.
            num_heads: attention heads.
            mlp_ratio: hidden channels of the feed-forward parts, per channel.
            patch_size: side of the patches that become tokens.
            pe_mode: "ape", absolute position embedding, the only one supported.
            use_fp16: store the blocks' linear weights in half precision.
            qk_rms_norm: normalise queries and keys of the self-attention.
            predicts: what the transformer gives. With "x_0", the clean latent: clean latents lie
                near a low-dimensional set that a few wide patches can carry, and noise does not.
                The model returns the velocity in both cases.
            data_std: standard deviation of clean latents, used where x_0 is predicted.
        """
        super().__init__()
        self.resolution, self.patch_size = resolution, patch_size
        self.predicts, self.data_std = predicts, data_std
        self.scene_context_blocks = range(0)
        self.use_checkpoint = False
        """Whether the backward pass computes the blocks again, which saves their activations."""
        self.t_embedder = TimestepEmbedder(model_channels)
        self.pos_emb: Tensor
        self.register_buffer(
            "pos_emb", grid_position_embedding(resolution // patch_size, model_channels)
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
        """Return the velocity (B, 8, R, R, R) of a noisy latent.

        Args:
            x: (B, 8, R, R, R).
            t_times_1000: (B,), the noise time, times 1000.
            cond: (B, T, C), image tokens.
        """
        return self.predict_grids(x[:, None], t_times_1000, cond[:, None])[:, 0]

    def predict_grids(
        self, x: Tensor, t_times_1000: Tensor, cond_BGTC: Tensor, num_targets: int = 0
    ) -> Tensor:
        """Return the velocities (B, G, 8, R, R, R) of several grids that share their noise time.

        Args:
            x: (B, G, 8, R, R, R), noisy latents.
            t_times_1000: (B,), the noise time, times 1000.
            cond_BGTC: image tokens of each grid.
            num_targets: how many grids, from the first on, attend to the others as well, in
                ``scene_context_blocks``.
        """
        if self.predicts == "velocity":
            return self._transform(x, t_times_1000, cond_BGTC, num_targets)
        t = (t_times_1000 / 1000).reshape(-1, 1, 1, 1, 1, 1)
        estimate = x * self._input_gain(t)
        x_0 = self.data_std * self._transform(estimate, t_times_1000, cond_BGTC, num_targets)
        # x_t = (1 - t) x_0 + t ε and v = ε - x_0, so v = (x_t - x_0) / t.
        velocity: Tensor = (x - x_0) / t.clamp(min=MIN_T)
        return velocity

    def _input_gain(self, t: Tensor) -> Tensor:
        """Return Wiener's gain, which makes x_t the best linear estimate of x_0 / data_std.

        It is 0 at t = 1: pure noise carries no signal, and at full strength it hides the condition.
        """
        signal = (1 - t) * self.data_std
        return signal / (signal**2 + t**2)

    def _transform(
        self, x: Tensor, t_times_1000: Tensor, cond_BGTC: Tensor, num_targets: int
    ) -> Tensor:
        """Return the transformer's output for grids (B, G, 8, R, R, R), in the same shape."""
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
        """Run the blocks in their own precision; return the input's."""
        dtype = next(m.weight.dtype for m in self.blocks.modules() if isinstance(m, nn.Linear))
        h, t, cond = h_BGLC.to(dtype), t_BC.to(dtype), cond_BGTC.to(dtype)
        for index, block in enumerate(self.blocks):
            arguments = (h, t, cond, num_targets if index in self.scene_context_blocks else 0)
            if self.use_checkpoint and torch.is_grad_enabled():
                h = checkpoint(block, *arguments, use_reentrant=False)
            else:
                h = block(*arguments)
        return h.to(h_BGLC.dtype)


def _initialize(model: SparseStructureFlowModel) -> None:
    """Set Xavier weights; zero modulation and output layer, so that a fresh model gives 0."""
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
