"""Sampling of Poisson disks with different radii.

Disks are placed from the largest to the smallest. A centre x_i is accepted only if, for every
placed disk j,

    ‖x_i − x_j‖ ≥ r_i + r_j + gap,    gap = mean(r) · s,

with one s per scene. Neighbours are looked up in a uniform grid with cells of (min r + gap)/√2, so
a cell holds at most one centre. Each disk has a fixed number of tries; after them the region grows
by 10 % and the disk is tried again.

A table cannot grow, so there all disks and the gap shrink by the same factor.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from datagen.errors import ConfigError, RowError

REGION_GROWTH = 1.1
MAX_EXPANSIONS = 200
"""Ends the loop. It is never reached in practice: 1.1^200 is eight orders of magnitude."""

MIN_FOR_GRID = 50
"""With fewer disks, comparing with every disk is faster than a grid."""

MAX_CELLS = 1 << 22
"""A larger grid (a tiny disk among huge ones, without a gap) is slower than comparing with every
disk."""

LEAST_DRAWS, DRAWS_PER_DISK = 384, 40
"""Random numbers for a scene: enough for 95 of 100 scenes of 2 to 12 disks. Even, as a try takes
two. The minimum is large because most tries are spent while the region is still too small."""


@dataclass(frozen=True)
class LayoutResult:
    """The disks of one scene."""

    centers_m: NDArray[np.float64]
    """(N, 2), metres, ground plane, in the order of the given radii."""
    gap_m: float
    """Least distance between two disks, metres."""
    region_half_m: float
    """Half the side of the square region, metres, after its expansions."""
    expansions: int
    """Number of times that the region grew."""


@dataclass(frozen=True)
class PackResult:
    """Several disks inside a polygon."""

    centers_m: NDArray[np.float64]
    """(N, 2), metres, in the order of the given radii."""
    share: float
    """Factor, at most 1, by which the radii and the gap shrank."""


def sample_layout(
    radii_m: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    gap_scale: float,
    max_tries: int,
    region_area_ratio: float = 2.0,
    max_expansions: int = MAX_EXPANSIONS,
) -> LayoutResult:
    """Return disks placed in a square about the origin, with a gap between each other.

    Args:
        radii_m: (N,), metres, positive.
        rng: the scene's own generator; more numbers are drawn than used.
        gap_scale: s; the gap is s times the mean radius, so a larger s gives a sparser scene.
        max_tries: centres tried for a disk before the region grows.
        region_area_ratio: area of the first region over the area of the disks.
        max_expansions: number of times that the region may grow.

    Raises:
        ConfigError: there are no disks, or an argument is out of its range.
        RowError: a disk has no place in the largest region.
    """
    radii = np.asarray(radii_m, np.float64)
    if radii.ndim != 1 or not _are_radii(radii):
        raise ConfigError(
            f"sample_layout: radii_m must be (N,) positive finite metres, got {radii_m!r}."
        )
    if max_tries < 1 or gap_scale < 0 or region_area_ratio <= 0:
        raise ConfigError(
            f"sample_layout: max_tries {max_tries} must be at least 1, gap_scale {gap_scale} "
            f"at least 0, region_area_ratio {region_area_ratio} above 0."
        )
    # Passing a generator to compiled code takes longer than the whole layout, so random numbers
    # are passed. If they run out, the layout is made again with twice as many.
    draws = rng.random(max(LEAST_DRAWS, DRAWS_PER_DISK * len(radii)))
    while True:
        centers, gap, half, expansions = _sample(
            radii, gap_scale, max_tries, region_area_ratio, max_expansions, draws
        )
        if expansions >= 0:
            break
        draws = np.concatenate([draws, rng.random(len(draws))])
    if expansions > max_expansions:
        raise RowError(
            f"no place for {len(radii)} disks (gap {gap:.3g} m) although the region grew "
            f"{max_expansions} times, to {2 * half:.3g} m. Give more max_tries, a smaller "
            "gap_scale or a larger region_area_ratio."
        )
    return LayoutResult(centers, gap, half, expansions)


def pack_in_polygon(
    edges_m: NDArray[np.float64],
    radii_m: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    gap_scale: float,
    max_tries: int,
    min_share: float,
) -> PackResult | None:
    """Return disks placed inside a polygon, all shrunk by one factor until they fit.

    Args:
        edges_m: (E, 2, 2), metres: start and end of every edge of the polygon and of its holes.
        radii_m: (N,), metres, positive.
        rng: the scene's own generator.
        gap_scale: s; the gap is s times the mean radius.
        max_tries: centres tried for a disk before all disks shrink.
        min_share: least factor by which the disks may shrink.

    Returns:
        The disks, or None if they do not fit at that factor.
    """
    edges = np.ascontiguousarray(edges_m, np.float64)
    radii = np.asarray(radii_m, np.float64)
    order = np.argsort(-radii, kind="stable")
    gap = float(radii.mean() * gap_scale)
    placed, share = _pack(edges, radii[order], gap, max_tries, min_share, rng)
    if share < min_share:
        return None
    centers = np.empty_like(placed)
    centers[order] = placed
    return PackResult(centers, float(share))


@njit(cache=True)
def _are_radii(radii):  # type: ignore[no-untyped-def]
    for radius in radii:
        if not (0.0 < radius < np.inf):
            return False
    return len(radii) > 0


@njit(cache=True)
def _sample(radii, gap_scale, max_tries, region_area_ratio, max_expansions, draws):  # type: ignore[no-untyped-def]
    """Return centres (N, 2), gap, the final half side, expansions; see ``_place``."""
    total = area = 0.0
    for radius in radii:  # an explicit loop: numpy's order of summation depends on the processor
        total += radius
        area += radius * radius
    gap = total / len(radii) * gap_scale
    half = np.sqrt(region_area_ratio * np.pi * area) / 2.0
    order = _largest_first(radii)
    half = max(half, radii[order[0]])
    placed, half, expansions = _place(radii[order], gap, half, max_tries, max_expansions, draws)
    centers = np.empty_like(placed)
    for i in range(len(order)):
        centers[order[i]] = placed[i]
    return centers, gap, half, expansions


@njit(cache=True)
def _largest_first(radii):  # type: ignore[no-untyped-def]
    """Return the indices (N,) from the largest to the smallest radius, equal ones in order."""
    if len(radii) >= MIN_FOR_GRID:
        return np.argsort(-radii, kind="mergesort")
    order = np.empty(len(radii), np.int64)  # insertion sort is faster for few disks
    for i in range(len(radii)):
        place = i
        while place > 0 and radii[order[place - 1]] < radii[i]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = i
    return order


@njit(cache=True)
def _place(radii, gap, half, max_tries, max_expansions, draws):  # type: ignore[no-untyped-def]
    """Return centres (N, 2) of disks sorted by size, the final half side and the expansions.

    Expansions are one above the maximum if a disk has no place, and -1 if the draws ran out.
    """
    num = len(radii)
    centers = np.zeros((num, 2))
    cell = (radii[-1] + gap) / np.sqrt(2.0)
    grid = _empty_grid(num, half, cell)
    expansions = tries = index = draw = 0
    while index < num:
        if draw == len(draws):
            return centers, half, -1
        inner = half - radii[index]  # the whole disk stays in the region
        x = inner * (2.0 * draws[draw] - 1.0)
        y = inner * (2.0 * draws[draw + 1] - 1.0)
        draw += 2
        tries += 1
        if len(grid):  # tested here, as one more call per try would cost a third of the whole time
            free = _is_free(x, y, index, centers, radii, gap, half, cell, grid)
        else:
            free = _is_apart(x, y, index, centers, radii, gap)
        if free:
            centers[index, 0], centers[index, 1] = x, y
            if len(grid):
                grid[_cell(x, half, cell), _cell(y, half, cell)] = index
            index, tries = index + 1, 0
        elif tries == max_tries:
            tries = 0
            expansions += 1
            if expansions > max_expansions:
                break
            half *= REGION_GROWTH
            grid = _empty_grid(num, half, cell)
            for j in range(index if len(grid) else 0):
                grid[_cell(centers[j, 0], half, cell), _cell(centers[j, 1], half, cell)] = j
    return centers, half, expansions


@njit(cache=True)
def _is_free(x, y, index, centers, radii, gap, half, cell, grid):  # type: ignore[no-untyped-def]
    size = grid.shape[0]
    reach = radii[index] + radii[0] + gap  # the first disk is the largest
    span = int(np.ceil(reach / cell))
    if index <= (2 * span + 1) * (2 * span + 1):  # fewer disks than cells within reach
        return _is_apart(x, y, index, centers, radii, gap)
    column, row = _cell(x, half, cell), _cell(y, half, cell)
    for i in range(max(0, column - span), min(size, column + span + 1)):
        for j in range(max(0, row - span), min(size, row + span + 1)):
            other = grid[i, j]
            if other < 0:
                continue
            dx, dy = x - centers[other, 0], y - centers[other, 1]
            room = radii[index] + radii[other] + gap
            if dx * dx + dy * dy < room * room:
                return False
    return True


@njit(cache=True)
def _empty_grid(num, half, cell):  # type: ignore[no-untyped-def]
    size = int(np.ceil(2.0 * half / cell)) + 1
    if num < MIN_FOR_GRID or size * size > MAX_CELLS:
        size = 0  # no grid
    return np.full((size, size), -1, np.int64)


@njit(cache=True)
def _cell(x, half, cell):  # type: ignore[no-untyped-def]
    return int((x + half) / cell)


@njit(cache=True)
def _is_apart(x, y, index, centers, radii, gap):  # type: ignore[no-untyped-def]
    for other in range(index):
        dx, dy = x - centers[other, 0], y - centers[other, 1]
        room = radii[index] + radii[other] + gap
        if dx * dx + dy * dy < room * room:
            return False
    return True


@njit(cache=True)
def _pack(edges, radii, gap, max_tries, min_share, rng):  # type: ignore[no-untyped-def]
    """Return centres (N, 2) of disks sorted by size, inside edges, and their shrink factor."""
    low_x, high_x = edges[:, :, 0].min(), edges[:, :, 0].max()
    low_y, high_y = edges[:, :, 1].min(), edges[:, :, 1].max()
    centers = np.zeros((len(radii), 2))
    radii = radii.copy()
    share = 1.0
    index = tries = 0
    while index < len(radii) and share >= min_share:
        x = low_x + (high_x - low_x) * rng.random()
        y = low_y + (high_y - low_y) * rng.random()
        tries += 1
        if _is_inside(x, y, radii[index], edges) and _is_apart(x, y, index, centers, radii, gap):
            centers[index, 0], centers[index, 1] = x, y
            index, tries = index + 1, 0
        elif tries == max_tries:
            share /= REGION_GROWTH
            radii /= REGION_GROWTH  # placed disks keep their centres: smaller ones still fit
            gap /= REGION_GROWTH
            tries = 0
    return centers, share


@njit(cache=True)
def _is_inside(x, y, radius, edges):  # type: ignore[no-untyped-def]
    """Return whether a whole disk lies inside: its centre does, and no edge is nearer than r."""
    inside = False
    for k in range(len(edges)):
        ax, ay, bx, by = edges[k, 0, 0], edges[k, 0, 1], edges[k, 1, 0], edges[k, 1, 1]
        if (ay > y) != (by > y) and x < ax + (bx - ax) * (y - ay) / (by - ay):
            inside = not inside
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        t = 0.0 if length == 0.0 else ((x - ax) * dx + (y - ay) * dy) / length
        t = min(1.0, max(0.0, t))
        if (ax + t * dx - x) ** 2 + (ay + t * dy - y) ** 2 < radius * radius:
            return False
    return inside
