"""Variable-radius Poisson disks: the seed's sampler.

Objects are placed larger first. A centre x_i is accepted only if, for every placed j,

    ‖x_i − x_j‖ ≥ r_i + r_j + gap,    gap = mean(r) · s,

with s drawn once a scene. Neighbours are looked up in a uniform grid of cell (min r + gap)/√2,
so that a cell holds at most one centre. Each object has a fixed budget of tries; when it is
spent, the region grows by 10 % and the object is tried again.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from datagen.errors import ConfigError

REGION_GROWTH = 1.1
MAX_EXPANSIONS = 200
"""1.1^200 is eight orders of magnitude: never reached, but a loop needs an end."""


@dataclass(frozen=True)
class LayoutResult:
    """Where the disks of one scene stand."""

    centers_m: NDArray[np.float64]
    """(N, 2), metres, ground plane, in the order of the given radii."""
    gap_m: float
    region_half_m: float
    """Half the side of the square that the disks lie in, after its expansions."""
    expansions: int


def sample_layout(
    radii_m: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    gap_scale: float,
    max_tries: int,
    region_area_ratio: float = 2.0,
) -> LayoutResult:
    """Place disks without contact in a square about the origin.

    Args:
        radii_m: (N,), metres, positive.
        rng: the scene's own generator.
        gap_scale: s; larger is sparser.
        max_tries: centres tried for a disk before the region grows.
        region_area_ratio: area of the first square over the area of the disks.

    Raises:
        ConfigError: no disks, or a radius, scale or budget that is not positive and finite.
    """
    radii = np.asarray(radii_m, np.float64)
    if radii.ndim != 1 or not len(radii) or not np.all(np.isfinite(radii) & (radii > 0)):
        raise ConfigError(
            f"sample_layout: radii_m must be (N,) positive finite metres, got {radii_m!r}."
        )
    if max_tries < 1 or gap_scale < 0 or region_area_ratio <= 0:
        raise ConfigError(
            f"sample_layout: max_tries {max_tries} must be at least 1, gap_scale {gap_scale} "
            f"at least 0, region_area_ratio {region_area_ratio} above 0."
        )
    gap = float(radii.mean() * gap_scale)
    order = np.argsort(-radii, kind="stable")
    half = float(np.sqrt(region_area_ratio * np.pi * np.sum(radii**2)) / 2)
    half = max(half, float(radii.max()))
    placed, half, expansions = _place(radii[order], gap, half, max_tries, rng)
    centers = np.empty_like(placed)
    centers[order] = placed
    return LayoutResult(centers, gap, float(half), int(expansions))


@njit(cache=True)
def _place(radii, gap, half, max_tries, rng):  # type: ignore[no-untyped-def]
    """Place disks (largest first); return centres (N, 2), the final half side, expansions."""
    num = len(radii)
    centers = np.zeros((num, 2))
    cell = (radii[-1] + gap) / np.sqrt(2.0)
    grid = _empty_grid(half, cell)
    expansions = 0
    index = 0
    while index < num:
        if _try_place(index, centers, radii, gap, half, cell, grid, max_tries, rng):
            index += 1
            continue
        expansions += 1
        if expansions > MAX_EXPANSIONS:
            raise ValueError("the region grew without end")
        half *= REGION_GROWTH
        grid = _empty_grid(half, cell)
        for j in range(index):
            grid[_cell(centers[j, 0], half, cell), _cell(centers[j, 1], half, cell)] = j
    return centers, half, expansions


@njit(cache=True)
def _try_place(index, centers, radii, gap, half, cell, grid, max_tries, rng):  # type: ignore[no-untyped-def]
    reach = radii[index] + radii[0] + gap  # no placed disk is larger than the first
    span = int(np.ceil(reach / cell))
    inner = half - radii[index]  # the whole disk stays in the region
    for _ in range(max_tries):
        x = inner * (2.0 * rng.random() - 1.0)
        y = inner * (2.0 * rng.random() - 1.0)
        column, row = _cell(x, half, cell), _cell(y, half, cell)
        if _is_free(x, y, index, column, row, span, centers, radii, gap, grid):
            centers[index, 0], centers[index, 1] = x, y
            grid[column, row] = index
            return True
    return False


@njit(cache=True)
def _is_free(x, y, index, column, row, span, centers, radii, gap, grid):  # type: ignore[no-untyped-def]
    size = grid.shape[0]
    for i in range(max(0, column - span), min(size, column + span + 1)):
        for j in range(max(0, row - span), min(size, row + span + 1)):
            other = grid[i, j]
            if other < 0:
                continue
            distance = np.sqrt((x - centers[other, 0]) ** 2 + (y - centers[other, 1]) ** 2)
            if distance < radii[index] + radii[other] + gap:
                return False
    return True


@njit(cache=True)
def _empty_grid(half, cell):  # type: ignore[no-untyped-def]
    size = int(np.ceil(2.0 * half / cell)) + 1
    return np.full((size, size), -1, np.int64)


@njit(cache=True)
def _cell(x, half, cell):  # type: ignore[no-untyped-def]
    return int((x + half) / cell)
