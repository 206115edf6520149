"""The statistics that normalise features."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def feature_statistics(
    views: Iterable[NDArray[np.float16]], channels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (C,), principal directions (C, L) and their standard deviations (L,).

    The directions are those of the largest variance. The largest entry of each is positive, so
    equal data give equal directions. If the features vary along fewer than L directions, the
    others are zeros with a standard deviation of 1.

    Args:
        views: features (V, C) of each view; they are read once and not kept.
        channels: L, the number of directions.

    Returns:
        float32 tensors.
    """
    count, total, squares = 0, np.zeros(1), np.zeros((1, 1))
    for features in views:
        values = features.astype(np.float64)
        count += len(values)
        total = total + values.sum(axis=0)
        squares = squares + values.T @ values
    mean = total / count
    variance, directions = np.linalg.eigh(squares / count - np.outer(mean, mean))
    variance, directions = variance[::-1][:channels], directions[:, ::-1][:, :channels]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    used = variance > 1e-8
    basis, std = np.zeros((len(mean), channels)), np.ones(channels)
    basis[:, : len(used)] = directions * used
    std[: len(used)][used] = np.sqrt(variance[used])
    parts = (torch.from_numpy(part.astype(np.float32)) for part in (mean, basis, std))
    mean_C, basis_CL, std_L = parts
    return mean_C, basis_CL, std_L
