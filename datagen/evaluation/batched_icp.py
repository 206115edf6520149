"""Many starts of one pair of clouds refined at once: symmetric, trimmed ICP with scale, in torch.

B starts, N source points, M target points. Shapes are fixed and nothing is drawn, so the result is
the same again on one device.
"""

import numpy as np
import torch
from torch import Tensor

from datagen.core.frames import Floats


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
    source: Floats,
    target: Floats,
    *,
    iterations: int,
    keep: float,
    with_scale: bool,
    device: str,
) -> Floats:
    """Return the starts (B, 4, 4) after so many iterations of ICP of (N, 3) on (M, 3).

    Each iteration pairs every source point with its nearest target point and the other way round,
    keeps the nearest share ``keep`` of each direction, and fits one similarity to what is kept.
    One direction alone would shrink or grow the source wherever the clouds overlap in part.
    """
    source_N3 = torch.as_tensor(source, dtype=torch.float32, device=device)
    target_M3 = torch.as_tensor(target, dtype=torch.float32, device=device)
    moves = torch.as_tensor(starts, dtype=torch.float32, device=device)
    for _ in range(iterations):
        pairs = _pairs(moves, source_N3, target_M3, keep)
        moves = _fit(*pairs, with_scale)
    return moves.double().cpu().numpy()


def score(moves: Floats, source: Floats, target: Floats, *, trim: float, device: str) -> Floats:
    """Return the trimmed symmetric Chamfer distance of each move (B, 4, 4): (B,)."""
    source_N3 = torch.as_tensor(source, dtype=torch.float32, device=device)
    target_M3 = torch.as_tensor(target, dtype=torch.float32, device=device)
    moves_B44 = torch.as_tensor(moves, dtype=torch.float32, device=device)
    squared_BNM = _squared_distances(_moved(moves_B44, source_N3), target_M3)
    total = torch.zeros(len(moves_B44), device=device)
    for nearest in (squared_BNM.amin(2), squared_BNM.amin(1)):
        distances = nearest.clamp(min=0).sqrt()
        kept = max(1, round(distances.shape[1] * (1 - trim)))
        total += distances.topk(kept, dim=1, largest=False).values.mean(1) / 2
    return total.double().cpu().numpy()


def _moved(moves_B44: Tensor, points_N3: Tensor) -> Tensor:
    linear, shift = moves_B44[:, :3, :3], moves_B44[:, None, :3, 3]
    return points_N3 @ linear.transpose(1, 2) + shift


def _squared_distances(first_BN3: Tensor, second_BM3: Tensor) -> Tensor:
    """Return (B, N, M), as one product, (−2p, |p|², 1)·(q, 1, |q|²); a side may lack the batch."""
    first_squares = (first_BN3**2).sum(-1, keepdim=True)
    second_squares = (second_BM3**2).sum(-1, keepdim=True)
    rows = torch.cat([-2 * first_BN3, first_squares, torch.ones_like(first_squares)], -1)
    columns = torch.cat([second_BM3, torch.ones_like(second_squares), second_squares], -1)
    return rows @ columns.transpose(-1, -2)


def _pairs(
    moves_B44: Tensor, source_N3: Tensor, target_M3: Tensor, keep: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return partners (B, N + M, 3) in source and target coordinates, and weights (B, N + M)."""
    moved_BN3 = _moved(moves_B44, source_N3)
    # Both orders are computed: a minimum across rows is several times as slow as along them.
    forward, to_target = _squared_distances(moved_BN3, target_M3).min(-1)
    backward, to_source = _squared_distances(target_M3, moved_BN3).min(-1)
    num = len(moves_B44)
    source = torch.cat([source_N3.expand(num, -1, 3), source_N3[to_source]], 1)
    target = torch.cat([target_M3[to_target], target_M3.expand(num, -1, 3)], 1)
    weights = torch.cat([_kept(forward, keep), _kept(backward, keep)], 1)
    return source, target, weights


def _kept(squared_BN: Tensor, keep: float) -> Tensor:
    """Return weights that are 1 for the nearest share, each direction summing to 1."""
    kept = max(3, round(squared_BN.shape[1] * keep))
    limit = squared_BN.kthvalue(kept, dim=1, keepdim=True).values
    weights = (squared_BN <= limit).float()
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
        spread_p, spread_q = (weights * p**2).sum((1, 2)), (weights * q**2).sum((1, 2))
        scale = (spread_q / spread_p.clamp(min=1e-12)).sqrt()[:, None, None]
    moves = torch.zeros(len(p), 4, 4, dtype=torch.float64, device=p.device)
    moves[:, :3, :3] = scale * rotation
    moves[:, :3, 3:] = target_mean.transpose(1, 2) - scale * rotation @ source_mean.transpose(1, 2)
    moves[:, 3, 3] = 1
    return moves.float()
