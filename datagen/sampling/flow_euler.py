"""Euler integration of a rectified flow from noise (t = 1) to data (t = 0)."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Called as ``model(x_t, t_times_1000, cond)``, with times (B,); returns v in x_t's shape."""


@torch.no_grad()
def sample_flow(
    model: Velocity,
    noise: Tensor,
    cond: Tensor,
    neg_cond: Tensor,
    *,
    steps: int = 25,
    cfg_strength: float = 3.0,
    cfg_interval: tuple[float, float] = (0.5, 1.0),
    rescale_t: float = 3.0,
    sigma_min: float = 1e-5,
) -> Tensor:
    """Return the sample that a flow model makes of noise, in the noise's shape.

    dx/dt = v is integrated from t = 1 to 0. Guidance is TRELLIS's, for t inside ``cfg_interval``:
    v = (1 + w)·v(cond) - w·v(neg_cond).

    Args:
        model: gives the velocity.
        noise: (B, ...), standard normal.
        cond: (B, ...), the condition.
        neg_cond: (B, ...), the negative condition; zeros, if the model was trained with them.
        steps: number of Euler steps.
        cfg_strength: w above.
        cfg_interval: lowest and highest t with guidance, both included.
        rescale_t: r in t' = r·t / (1 + (r - 1)·t); above 1, steps are smaller near the noise.
        sigma_min: standard deviation left at t = 0, as in training; Euler steps do not use it.
    """
    x = noise
    times = noise_times(steps, rescale_t)
    for t, t_next in pairwise(times):
        t_times_1000 = torch.full((len(x),), 1000 * float(t), device=x.device)
        v = model(x, t_times_1000, cond)
        if cfg_strength and cfg_interval[0] <= t <= cfg_interval[1]:
            v = (1 + cfg_strength) * v - cfg_strength * model(x, t_times_1000, neg_cond)
        x = x - float(t - t_next) * v
    return x


def noise_times(steps: int, rescale_t: float) -> NDArray[np.float64]:
    """Return the noise times (steps + 1,) float64, from 1 to 0."""
    t = np.linspace(1.0, 0.0, steps + 1)
    return np.asarray(rescale_t * t / (1 + (rescale_t - 1) * t))
