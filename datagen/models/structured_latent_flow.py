"""TRELLIS's flow transformer over structured latents: features on the occupied voxels.

Shape suffixes: N sites, C channels, E channels of the embedded time, H heads, D head channels,
B samples, T condition tokens. Parameter names are those of the published checkpoints.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datagen.models.attention import CrossAttention, FeedForward, SelfAttention
from datagen.models.embeddings import TimestepEmbedder, position_embedding
from datagen.models.sparse import (
    Sites,
    SparseConv3d,
    attend_in_groups,
    attend_to_tokens,
    downsample,
)


class SLatFlowModel(nn.Module):
    """Velocity of noisy latents on sites, given their noise time and the tokens of an image."""

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
        patch_size: Literal[2] = 2,
        num_io_res_blocks: int = 2,
        io_block_channels: list[int] | None = None,
        pe_mode: Literal["ape"] = "ape",
        use_fp16: bool = False,
        qk_rms_norm: bool = False,
    ) -> None:
        """Build with the published arguments.

        Raises:
            TypeError: the arguments ask for another resampling than one pooling by 2.
        """
        super().__init__()
        self.resolution, self.in_channels = resolution, in_channels
        self.cond_channels = cond_channels
        widths = io_block_channels or []
        if patch_size != 2 or len(widths) != 1:
            raise TypeError(f"patch_size {patch_size} with {len(widths)} widths; expected 2 with 1")
        narrow, wide = widths[0], model_channels
        self.t_embedder = TimestepEmbedder(wide)
        self.input_layer = nn.Linear(in_channels, narrow)
        repeats = num_io_res_blocks - 1
        self.input_blocks = nn.ModuleList(
            [SparseResBlock(narrow, narrow, wide) for _ in range(repeats)]
            + [SparseResBlock(narrow, wide, wide, resample="down")]
        )
        self.blocks = nn.ModuleList(
            SparseCrossBlock(wide, cond_channels, num_heads, mlp_ratio, qk_rms_norm=qk_rms_norm)
            for _ in range(num_blocks)
        )
        self.out_blocks = nn.ModuleList(
            [SparseResBlock(2 * wide, narrow, wide, resample="up")]
            + [SparseResBlock(2 * narrow, narrow, wide) for _ in range(repeats)]
        )
        self.out_layer = nn.Linear(narrow, out_channels)
        _initialize(self)
        if use_fp16:
            convert_to_fp16(self.input_blocks, self.blocks, self.out_blocks)

    def forward(self, x: Tensor, t_times_1000: Tensor, cond: Tensor, sites: Sites) -> Tensor:
        """Return the velocity (N, 8) of noisy latents.

        Args:
            x: (N, 8), in the order of ``sites``.
            t_times_1000: (B,), the noise time of each sample, times 1000.
            cond: (B, T, C), image tokens.
            sites: of the B samples.
        """
        assert len(cond) == len(t_times_1000) == sites.num_samples, (
            len(cond),
            len(t_times_1000),
            sites.num_samples,
        )
        dtype = torso_dtype(self.blocks)
        emb, cond = self.t_embedder(t_times_1000).to(dtype), cond.to(dtype)
        h = self.input_layer(x).to(dtype)
        fine, coarse, index = sites, sites, None
        skips = []
        for block in self.input_blocks:
            if block.resample == "down":
                h, coarse, index = downsample(h, fine)
            h = block(h, emb, coarse)
            skips.append(h)
        h = h + position_embedding(coarse.coords[:, 1:], h.shape[1]).to(dtype)
        for block in self.blocks:
            h = block(h, emb, cond, coarse)
        for block in self.out_blocks:
            h = torch.cat([h, skips.pop()], dim=1)
            if block.resample == "up":
                h = h[index]
            h = block(h, emb, fine)
        out: Tensor = self.out_layer(F.layer_norm(h, h.shape[-1:]).to(x.dtype))
        return out


class SparseResBlock(nn.Module):
    """Residual block of two convolutions, the second one modulated by the noise time.

    The caller resamples the features before the block, because other blocks share the new sites.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        emb_channels: int,
        resample: Literal["down", "up"] | None = None,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.conv1 = SparseConv3d(channels, out_channels)
        self.conv2 = SparseConv3d(out_channels, out_channels)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.skip_connection: nn.Module = nn.Identity()
        if channels != out_channels:
            self.skip_connection = nn.Linear(channels, out_channels)

    def forward(self, x: Tensor, emb: Tensor, sites: Sites) -> Tensor:
        """Return features (N, C_out) for features (N, C) and the embedded time (B, E)."""
        scale, shift = self.emb_layers(emb)[sites.sample].chunk(2, dim=1)
        h = self.conv1(F.silu(layer_norm(x, self.norm1)), sites)
        h = self.conv2(F.silu(layer_norm(h) * (1 + scale) + shift), sites)
        y: Tensor = h + self.skip_connection(x)
        return y


class SparseCrossBlock(nn.Module):
    """Self-attention within each sample, cross-attention, feed-forward; modulated by the time."""

    def __init__(
        self,
        channels: int,
        cond_channels: int,
        num_heads: int,
        mlp_ratio: float,
        *,
        qk_rms_norm: bool,
    ) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.self_attn = SelfAttention(channels, num_heads, qk_rms_norm=qk_rms_norm)
        self.cross_attn = CrossAttention(channels, cond_channels, num_heads)
        self.mlp = FeedForward(channels, mlp_ratio)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))

    def forward(self, x: Tensor, emb: Tensor, cond: Tensor, sites: Sites) -> Tensor:
        """Return features (N, C) after the block.

        Args:
            x: (N, C).
            emb: (B, C), the embedded noise time.
            cond: (B, T, C_cond), condition tokens.
            sites: of the N features.
        """
        modulation = self.adaLN_modulation(emb)[sites.sample].chunk(6, dim=1)
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = modulation
        h = layer_norm(x) * (1 + scale_msa) + shift_msa
        q, k, v = project_qkv(self.self_attn, h)
        attended = attend_in_groups(q, k, v, sites.by_sample)
        x = x + self.self_attn.to_out(attended.flatten(1)) * gate_msa
        x = x + cross_attend(self.cross_attn, layer_norm(x, self.norm2), cond, sites)
        h = layer_norm(x) * (1 + scale_mlp) + shift_mlp
        y: Tensor = x + self.mlp(h) * gate_mlp
        return y


def project_qkv(attention: SelfAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values (N, H, D) of features (N, C)."""
    q, k, v = attention.to_qkv(x).unflatten(1, (3, attention.num_heads, -1)).unbind(1)
    return attention.q_rms_norm(q), attention.k_rms_norm(k), v


def cross_attend(attention: CrossAttention, x: Tensor, cond: Tensor, sites: Sites) -> Tensor:
    """Return (N, C): each sample's sites (N, C) attend to its condition tokens (B, T, C_cond)."""
    q = attention.to_q(x).unflatten(1, (attention.num_heads, -1))
    k, v = attention.to_kv(cond).unflatten(2, (2, attention.num_heads, -1)).unbind(2)
    out: Tensor = attention.to_out(attend_to_tokens(q, k, v, sites.by_sample).flatten(1))
    return out


def layer_norm(x: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
    """Return (N, C) with channels normalised in float32, in the input's dtype."""
    weight, bias = (norm.weight, norm.bias) if norm is not None else (None, None)
    return F.layer_norm(x.float(), x.shape[-1:], weight, bias, eps=1e-6).to(x.dtype)


def torso_dtype(torso: nn.Module) -> torch.dtype:
    """Return the dtype of a torso's linear layers."""
    return next(m.weight.dtype for m in torso.modules() if isinstance(m, nn.Linear))


def convert_to_fp16(*torsos: nn.Module) -> None:
    """Store linear and convolution weights in half precision, as published, and keep the norms."""
    for torso in torsos:
        for module in torso.modules():
            if isinstance(module, nn.Linear):
                module.half()
            elif isinstance(module, SparseConv3d):
                module.conv.half()


def _initialize(model: SLatFlowModel) -> None:
    """Set Xavier weights; zero modulation, second convolutions and output layer."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
            if name == "out_layer" or "adaLN_modulation" in name:
                nn.init.zeros_(module.weight)
            elif name.startswith("t_embedder"):
                nn.init.normal_(module.weight, std=0.02)
            else:
                nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, SparseResBlock):
            nn.init.zeros_(module.conv2.conv.weight)
            nn.init.zeros_(module.conv2.conv.bias)
