"""Many starts of many pairs of clouds refined at once: symmetric, robust ICP with scale, in torch.

S pairs of clouds, N source points, M target points, B starts, each of one pair. Nothing is random,
and starts are independent: a device gives the same result whatever else is in the batch.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datagen.core.frames import Floats

Indices = NDArray[np.intp]

DISTANCES_AT_ONCE = 1 << 28
"""Distances computed at once: 1 GB of float32 in each direction. More starts are cut into parts."""


def farthest_points(points: Floats, num: int) -> Floats:
    """Return ``num`` points (num, 3) of a cloud, each the one farthest from those before it.

    The first is the one farthest from the mean; a smaller choice is the beginning of a larger one.
    """
    points32 = np.ascontiguousarray(points.T, np.float32)
    chosen = np.empty(min(num, len(points)), np.intp)
    nearest = np.full(len(points), np.inf, np.float32)
    index = int(np.argmax(((points - points.mean(axis=0)) ** 2).sum(axis=1)))
    for step in range(len(chosen)):
        chosen[step] = index
        offset = points32 - points32[:, index, None]
        np.minimum(nearest, np.einsum("ij,ij->j", offset, offset), out=nearest)
        index = int(nearest.argmax())
    return np.asarray(points[chosen])


def refine(
    starts: Floats,
    sources: Floats,
    targets: Floats,
    pair_of: Indices,
    *,
    widths: Floats,
    with_scale: bool,
    device: str,
) -> Floats:
    """Return the starts (B, 4, 4) after one ICP iteration for each width.

    Start b moves source ``pair_of[b]`` onto the target of that index. Each iteration pairs every
    point of both clouds with its nearest point of the other cloud, and fits one similarity to all
    pairs. (Pairs of one direction would shrink or grow the source if the clouds overlap in part.)
    A pair at distance d has the weight (c² / (c² + d²))², where c is the iteration's width (Geman
    and McClure, as in Zhou, Park and Koltun, ECCV 2016). Points without a partner lose their
    influence as c shrinks, however many there are. (Trimmed ICP keeps a fixed share of the pairs,
    and leaves the true pose if a larger share has no partner.)

    Args:
        starts: (B, 4, 4), sources to targets.
        sources: (S, N, 3).
        targets: (S, M, 3).
        pair_of: (B,), index of each start's source and target.
        widths: (W,), c of each iteration, in the targets' unit.
        with_scale: fit a similarity; False: a rigid motion.
        device: torch device.

    Returns:
        float64.
    """
    refined = []
    for moves, source, target in _parts(starts, sources, targets, pair_of, device):
        for width in widths.tolist():
            moves = _fit(*_pairs(moves, source, target, width), with_scale)
        refined.append(moves)
    return torch.cat(refined).double().cpu().numpy()


def score(
    moves: Floats, sources: Floats, targets: Floats, pair_of: Indices, *, limit: float, device: str
) -> Floats:
    """Return the remaining distance (B,) of the clouds after each move (B, 4, 4).

    It is the sum of both directions' mean squared distances, each distance capped at ``limit``.

    Args:
        moves: (B, 4, 4), sources to targets.
        sources: (S, N, 3).
        targets: (S, M, 3).
        pair_of: (B,), index of each move's source and target.
        limit: largest distance that counts, in the targets' unit.
        device: torch device.
    """
    scores = []
    for moves_B44, source, target in _parts(moves, sources, targets, pair_of, device):
        squared_BNM = _squared_distances(_moved(moves_B44, source), target)
        forward, backward = squared_BNM.amin(2), squared_BNM.amin(1)
        scores.append(forward.clamp(0, limit**2).mean(1) + backward.clamp(0, limit**2).mean(1))
    return torch.cat(scores).double().cpu().numpy()


def _parts(
    moves: Floats, sources: Floats, targets: Floats, pair_of: Indices, device: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Iterate over parts that fit into memory: moves (B, 4, 4), clouds (B, N, 3) and (B, M, 3)."""
    moves_B44, sources_SN3, targets_SM3 = (
        torch.as_tensor(array, dtype=torch.float32, device=device)
        for array in (moves, sources, targets)
    )
    pair_B = torch.as_tensor(pair_of, device=device)
    at_once = max(1, DISTANCES_AT_ONCE // (sources.shape[1] * targets.shape[1]))
    for first in range(0, len(moves), at_once):
        part = slice(first, first + at_once)
        yield moves_B44[part], sources_SN3[pair_B[part]], targets_SM3[pair_B[part]]


def _moved(moves_B44: Tensor, points_BN3: Tensor) -> Tensor:
    linear, shift = moves_B44[:, :3, :3], moves_B44[:, None, :3, 3]
    return points_BN3 @ linear.transpose(1, 2) + shift


def _squared_distances(first_BN3: Tensor, second_BM3: Tensor) -> Tensor:
    """Return (B, N, M), as one product, (−2p, |p|², 1)·(q, 1, |q|²)."""
    first_squares = (first_BN3**2).sum(-1, keepdim=True)
    second_squares = (second_BM3**2).sum(-1, keepdim=True)
    rows = torch.cat([-2 * first_BN3, first_squares, torch.ones_like(first_squares)], -1)
    columns = torch.cat([second_BM3, torch.ones_like(second_squares), second_squares], -1)
    return rows @ columns.transpose(-1, -2)


def _pairs(
    moves_B44: Tensor, source_BN3: Tensor, target_BM3: Tensor, width: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return partners (B, N + M, 3) in source and target coordinates, and weights (B, N + M)."""
    moved_BN3 = _moved(moves_B44, source_BN3)
    # Both orders are computed: a minimum across rows is several times as slow as along them.
    forward, to_target = _squared_distances(moved_BN3, target_BM3).min(-1)
    backward, to_source = _squared_distances(target_BM3, moved_BN3).min(-1)
    source = torch.cat([source_BN3, source_BN3.take_along_dim(to_source[..., None], 1)], 1)
    target = torch.cat([target_BM3.take_along_dim(to_target[..., None], 1), target_BM3], 1)
    weights = torch.cat([_weights(forward, width), _weights(backward, width)], 1)
    return source, target, weights


def _weights(squared_BN: Tensor, width: float) -> Tensor:
    """Return how much pairs weigh, each direction summing to 1."""
    weights = (width**2 / (width**2 + squared_BN.clamp(min=0))) ** 2
    return weights / weights.sum(1, keepdim=True)


def _fit(source: Tensor, target: Tensor, weights: Tensor, with_scale: bool) -> Tensor:
    """Return the weighted similarities (B, 4, 4), scale after Horn (1987): √(var q / var p).

    Horn's scale treats both clouds alike; the least-squares one shrinks by the noise of the pairs.
    """
    source, target, weights = source.double(), target.double(), weights.double()[..., None] / 2
    source_mean = (weights * source).sum(1, keepdim=True)
    target_mean = (weights * target).sum(1, keepdim=True)
    p, q = source - source_mean, target - target_mean
    left, _, right = torch.linalg.svd((weights * q).transpose(1, 2) @ p)
    signs = torch.ones_like(left[:, 0])
    signs[:, 2] = torch.linalg.det(left @ right).sign()
    rotation = (left * signs[:, None]) @ right
    scale = torch.ones(len(p), 1, 1, dtype=torch.float64, device=p.device)
    if with_scale:
        variance_p, variance_q = (weights * p**2).sum((1, 2)), (weights * q**2).sum((1, 2))
        scale = (variance_q / variance_p.clamp(min=1e-12)).sqrt()[:, None, None]
    moves = torch.zeros(len(p), 4, 4, dtype=torch.float64, device=p.device)
    moves[:, :3, :3] = scale * rotation
    moves[:, :3, 3:] = target_mean.transpose(1, 2) - scale * rotation @ source_mean.transpose(1, 2)
    moves[:, 3, 3] = 1
    return moves.float()
