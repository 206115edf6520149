"""The constant predictor: the best that a model can reach without looking at its image."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.errors import DatasetError


@dataclass(frozen=True)
class ConstantPrediction:
    """One grid that is predicted for every instance."""

    grid: NDArray[np.bool_]
    """(R, R, R), canonical frame of the views it was fitted to."""

    threshold: float
    """Voxels occupied in at least this share of the training instances are set."""

    mean_iou: float
    """Mean voxel IoU on the training instances; no other threshold has a higher one."""

    num_instances: int


def fit_constant(grids: Iterable[NDArray[np.bool_]]) -> ConstantPrediction:
    """Threshold the mean occupancy of training instances (R, R, R) where their mean IoU is highest.

    Every threshold is tried: with n instances a voxel's mean is one of 0/n … n/n. Empty instances
    are left out. Among equals the highest threshold wins, so the grid is the smallest.

    Raises:
        DatasetError: no instance has a voxel.
    """
    occupied: list[NDArray[np.int32]] = []
    shape: tuple[int, ...] = ()
    for grid in grids:
        shape = grid.shape
        indices = np.flatnonzero(grid).astype(np.int32)
        if len(indices):
            occupied.append(indices)
    if not occupied:
        raise DatasetError(
            "constant predictor: 0 training instances with a voxel; at least one is needed. "
            "Check that the latents stage has kept views of training scenes."
        )

    num = len(occupied)
    counts = np.bincount(np.concatenate(occupied), minlength=int(np.prod(shape)))
    iou_sum = np.zeros(num)  # of thresholds 1/n … n/n
    set_sizes = _at_least(counts[counts > 0], num)
    for indices in occupied:
        intersection = _at_least(counts[indices], num)
        iou_sum += intersection / np.maximum(len(indices) + set_sizes - intersection, 1)
    best = num - 1 - int(np.argmax(iou_sum[::-1]))
    return ConstantPrediction(
        grid=(counts >= best + 1).reshape(shape),
        threshold=(best + 1) / num,
        mean_iou=float(iou_sum[best] / num),
        num_instances=num,
    )


def _at_least(counts: NDArray[np.integer[Any]], highest: int) -> NDArray[np.int64]:
    """Return how many counts are at least 1, 2 … highest: (highest,)."""
    histogram = np.bincount(counts, minlength=highest + 1)
    return np.asarray(np.cumsum(histogram[::-1])[::-1][1:], np.int64)
