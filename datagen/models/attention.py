"""Attention and the transformer block of TRELLIS's flow models, with scene-context attention.

Shape suffixes: B batch, G grids (slots) of one sample, N target grids, M context grids, L tokens of
a grid, T condition tokens, C channels, H heads, D head channels. Parameter names are those of the
published checkpoints.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MultiHeadRMSNorm(nn.Module):
    """RMS norm of each head's vectors: length sqrt(D), times a learned gamma per channel."""

    def __init__(self, num_heads: int, head_channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(num_heads, head_channels))

    def forward(self, x_BLHD: Tensor) -> Tensor:
        """Return the vectors (..., H, D) normalised, computed in float32, in the input's dtype."""
        scale = math.sqrt(x_BLHD.shape[-1])
        return (F.normalize(x_BLHD.float(), dim=-1) * self.gamma * scale).to(x_BLHD.dtype)


class SelfAttention(nn.Module):
    """Self-attention within each grid, or scene-context attention."""

    def __init__(self, channels: int, num_heads: int, *, qk_rms_norm: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.q_rms_norm: nn.Module = nn.Identity()
        self.k_rms_norm: nn.Module = nn.Identity()
        if qk_rms_norm:
            self.q_rms_norm = MultiHeadRMSNorm(num_heads, channels // num_heads)
            self.k_rms_norm = MultiHeadRMSNorm(num_heads, channels // num_heads)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x_BGLC: Tensor, num_targets: int = 0) -> Tensor:
        """Return the attended tokens (B, G, L, C) of grids (B, G, L, C).

        Args:
            x_BGLC: tokens of each grid.
            num_targets: 0: each grid attends within itself. Above 0, scene-context attention: the
                first ``num_targets`` grids are targets (I-Scene: instances), the others context
                (the scene). A target attends to itself and to every context grid,
                softmax(Q_i [K_i; K_s]ᵀ / √D) [V_i; V_s]; a context grid to itself alone.
        """
        q, k, v = self._project(x_BGLC)
        if not num_targets:
            return self._merge(_attend(q, k, v), x_BGLC.shape)
        q, k, v = (_split_grids(part, x_BGLC.shape[0]) for part in (q, k, v))
        targets = _attend(
            q[:, :num_targets].flatten(0, 1),
            _with_context(k, num_targets).flatten(0, 1),
            _with_context(v, num_targets).flatten(0, 1),
        )
        contexts = _attend(*(part[:, num_targets:].flatten(0, 1) for part in (q, k, v)))
        both = [_split_grids(part, x_BGLC.shape[0]) for part in (targets, contexts)]
        return self._merge(torch.cat(both, dim=1).flatten(0, 1), x_BGLC.shape)

    def _project(self, x_BGLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (B·G, H, L, D) each."""
        B, G, L, _ = x_BGLC.shape
        q, k, v = self.to_qkv(x_BGLC).reshape(B * G, L, 3, self.num_heads, -1).unbind(2)
        q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def _merge(self, x_BHLD: Tensor, shape: torch.Size) -> Tensor:
        merged: Tensor = self.to_out(x_BHLD.transpose(1, 2).reshape(shape))
        return merged


class CrossAttention(nn.Module):
    """Cross-attention of each grid's tokens to that grid's condition tokens."""

    def __init__(self, channels: int, cond_channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(cond_channels, 2 * channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x_BGLC: Tensor, cond_BGTC: Tensor) -> Tensor:
        """Return the attended tokens (B, G, L, C), given condition tokens (B, G, T, C_cond)."""
        B, G, L, C = x_BGLC.shape
        q = self.to_q(x_BGLC).reshape(B * G, L, self.num_heads, -1).transpose(1, 2)
        kv = self.to_kv(cond_BGTC).reshape(B * G, cond_BGTC.shape[2], 2, self.num_heads, -1)
        k, v = (part.transpose(1, 2) for part in kv.unbind(2))
        merged: Tensor = self.to_out(_attend(q, k, v).transpose(1, 2).reshape(B, G, L, C))
        return merged


class FeedForward(nn.Module):
    """Two linear layers with a tanh-approximated GELU between them."""

    def __init__(self, channels: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., C) for features (..., C)."""
        y: Tensor = self.mlp(x)
        return y


@dataclass(frozen=True)
class BlockShape:
    """The sizes of one transformer block."""

    channels: int
    """Of the grid's tokens."""
    cond_channels: int
    """Of the condition tokens."""
    num_heads: int
    """Of both attentions."""
    mlp_ratio: float
    """Hidden channels of the feed-forward part, per channel."""
    qk_rms_norm: bool
    """Whether queries and keys of the self-attention are normalised."""


class ModulatedTransformerCrossBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward; the first and last depend on the time."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(shape.channels, eps=1e-6)
        self.self_attn = SelfAttention(
            shape.channels, shape.num_heads, qk_rms_norm=shape.qk_rms_norm
        )
        self.cross_attn = CrossAttention(shape.channels, shape.cond_channels, shape.num_heads)
        self.mlp = FeedForward(shape.channels, shape.mlp_ratio)
        self.adaLN_modulation = nn.Sequential(
            nn.SiLU(), nn.Linear(shape.channels, 6 * shape.channels)
        )

    def forward(
        self, x_BGLC: Tensor, t_BC: Tensor, cond_BGTC: Tensor, num_targets: int = 0
    ) -> Tensor:
        """Return the tokens (B, G, L, C) after the block.

        Args:
            x_BGLC: tokens of each grid.
            t_BC: embedded noise time, which all grids of a sample share.
            cond_BGTC: condition tokens of each grid.
            num_targets: as ``SelfAttention.forward`` takes it.
        """
        modulation = self.adaLN_modulation(t_BC)[:, None, None].chunk(6, dim=-1)
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = modulation

        h = _layer_norm(x_BGLC) * (1 + scale_msa) + shift_msa
        h = self.self_attn(h, num_targets)
        x = x_BGLC + h * gate_msa

        h = _layer_norm(x, self.norm2.weight, self.norm2.bias)
        x = x + self.cross_attn(h, cond_BGTC)

        h = _layer_norm(x) * (1 + scale_mlp) + shift_mlp
        y: Tensor = x + self.mlp(h) * gate_mlp
        return y


def _layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Normalise the channels in float32, and return the input's dtype."""
    return F.layer_norm(x.float(), x.shape[-1:], weight, bias, eps=1e-6).to(x.dtype)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    # On a CPU, attention's backward pass is slower in half precision than in single.
    with torch.autocast("cpu", enabled=False):
        attended = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    return attended.to(v.dtype)


def _split_grids(x: Tensor, batch_size: int) -> Tensor:
    return x.reshape(batch_size, -1, *x.shape[1:])


def _with_context(x_BGHLD: Tensor, num_targets: int) -> Tensor:
    """Append every context grid's tokens to each target's: (B, N, H, (1 + M)·L, D)."""
    targets, contexts = x_BGHLD[:, :num_targets], x_BGHLD[:, num_targets:]
    appended = contexts.transpose(1, 2).flatten(2, 3)  # (B, H, M·L, D)
    return torch.cat([targets, appended[:, None].expand(-1, num_targets, -1, -1, -1)], dim=3)
