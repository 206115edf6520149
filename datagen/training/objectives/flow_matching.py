"""Rectified flow with a shared time: the random draws of a step, and the target.

x_t = (1 - t)·x_0 + (σ + (1 - σ)·t)·ε,  v = (1 - σ)·ε - x_0,  loss = ‖v_θ(x_t, 1000·t, cond) - v‖²

Shape suffixes: B batch, G grids of one sample (the scene, then instances).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datagen.training.config import FlowMatching


@dataclass(frozen=True)
class FlowDraw:
    """The random draws of one loss."""

    t_B: Tensor
    """(B,) float32, the time t of each view, in [0, 1]."""
    noise: Tensor
    """(B, ...) float32, ε, in the shape of x_0."""
    keep_condition_B: Tensor
    """(B,) bool, whether a view keeps its condition."""

    def to(self, device: str) -> "FlowDraw":
        """Return the same draw on a device."""
        return FlowDraw(
            self.t_B.to(device), self.noise.to(device), self.keep_condition_B.to(device)
        )

    def __getitem__(self, chosen: slice) -> "FlowDraw":
        """Return the draws of some samples."""
        return FlowDraw(self.t_B[chosen], self.noise[chosen], self.keep_condition_B[chosen])

    @classmethod
    def join(cls, draws: Sequence["FlowDraw"]) -> "FlowDraw":
        """Return the draws of all samples as one."""
        return cls(
            torch.cat([one.t_B for one in draws]),
            torch.cat([one.noise for one in draws]),
            torch.cat([one.keep_condition_B for one in draws]),
        )


def draw(flow: FlowMatching, rng: np.random.Generator, shape: torch.Size) -> FlowDraw:
    """Return the draws for latents of a shape (B, G, ...).

    All grids of a sample share t. Each grid has its own noise, as in I-Scene, where an
    [instance, scene] pair is one sample and its two parts have different noise.

    Args:
        flow: distribution of t, and the share of dropped conditions.
        rng: the random stream.
        shape: of x_0, for example (B, G, 8, R, R, R).
    """
    t = 1 / (1 + np.exp(-rng.normal(flow.t_mean, flow.t_std, shape[0])))
    keep = rng.random(shape[0]) >= flow.drop_condition
    noise = rng.standard_normal(tuple(shape), np.float32)
    return FlowDraw(
        torch.from_numpy(t.astype(np.float32)), torch.from_numpy(noise), torch.from_numpy(keep)
    )


def noisy_latent(x_0: Tensor, noise: Tensor, t_B: Tensor, sigma_min: float) -> Tensor:
    """Return x_t in the shape of ``x_0`` and ``noise`` (B, ...); ``t_B`` is (B,)."""
    t = t_B.reshape(-1, *(1,) * (x_0.ndim - 1))
    return (1 - t) * x_0 + (sigma_min + (1 - sigma_min) * t) * noise


def velocity(x_0: Tensor, noise: Tensor, sigma_min: float) -> Tensor:
    """Return the velocity v that a network learns, in the shape of ``x_0`` and ``noise`` (...)."""
    return (1 - sigma_min) * noise - x_0


def weigh_by_time(flow: FlowMatching, loss_BG: Tensor, t_B: Tensor) -> Tensor:
    """Return losses (B, G), multiplied by (t / t_floor)² where ``t_B`` (B,) is below it."""
    if not flow.t_floor:
        return loss_BG
    return loss_BG * (t_B / flow.t_floor).clamp(max=1).square()[:, None]
