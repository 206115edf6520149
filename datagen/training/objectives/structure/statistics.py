"""The statistics that normalise latents."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def latent_statistics(views: Iterable[NDArray[np.float16]]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each latent channel, (8, 1, 1, 1) float32 each.

    Args:
        views: latents (G, 8, R, R, R) of each view; they are read once and not kept.
    """
    count, total, squares = 0, np.zeros(8), np.zeros(8)
    for latents in views:
        values = latents.astype(np.float64)
        count += values[:, 0].size
        total += values.sum(axis=(0, 2, 3, 4))
        squares += (values**2).sum(axis=(0, 2, 3, 4))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-8))
    return _channel_tensor(mean), _channel_tensor(std)


def _channel_tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).reshape(-1, 1, 1, 1)
