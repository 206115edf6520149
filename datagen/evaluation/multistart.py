"""Beyond the robust ICP: every turn refined at once, the best chosen, its scale left free."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from datagen.core.frames import Floats, transform_points
from datagen.errors import ConfigError
from datagen.evaluation import batched_icp
from datagen.evaluation.fine_icp import fine_icp, fine_surface, truncated_squares
from datagen.evaluation.points import Points
from datagen.evaluation.registration import (
    IcpOptions,
    NormalisedPair,
    Registration,
    Stage,
    check_up_axis,
    coarse_candidates,
    fit_of,
    is_valid,
    normalise_together,
)
from datagen.evaluation.similarity import (
    UpAxis,
    axis_rotations,
    project_similarity,
    similarity,
    spread_rotations,
)
from datagen.evaluation.trimmed import trimmed_chamfer

THIN_VOXEL = 0.02
"""Of a cloud's longest side: voxels that its points are averaged in before the search."""


@dataclass(frozen=True, kw_only=True)
class MultistartOptions:
    """The numbers of the multi-start registration; lengths in normalised units."""

    turns: Literal["yaw", "all"] = "yaw"
    """Turns about the up axis, or rotations spread over SO(3)."""

    num_starts: int | None = None
    """How many turns; None is 24 about the up axis, 200 over SO(3)."""

    rounds: tuple[tuple[int, int, float], ...] = ((256, 8, 0.25), (256, 12, 0.33), (768, 8, 1.0))
    """Points a cloud, iterations, and the share of starts that goes on, of each refinement."""

    num_fine: int = 6
    """Different results, by trimmed symmetric Chamfer distance, that reach the fine stage."""

    wide_iterations: int = 8
    fine_iterations: int = 25

    keep: float = 0.8
    """Share of each direction's pairs that a step is fitted to."""

    same: float = 0.02
    """Results that move no point farther apart than this, on average, are one result."""

    fine_points: int = 5000
    """At most so many points of each cloud are in the fine stage."""

    with_seed_candidates: bool = True
    """Whether the robust ICP's coarse results, of both spaces, are in the pool (needs Open3D)."""

    device: str = "cpu"
    """Where torch refines."""

    icp: IcpOptions = field(default_factory=IcpOptions)
    """The robust ICP's numbers: of its candidates, and of the fine stage."""

    def starts(self, up_axis: UpAxis) -> Floats:
        """Return the rotations (num, 3, 3) that are tried."""
        if self.turns == "yaw":
            return axis_rotations(up_axis, self.num_starts or 24)
        return spread_rotations(self.num_starts or 200)

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1 or (self.num_starts or 1) < 1 or not self.rounds:
            raise ConfigError(
                "multistart: keep must be in (0, 1], num_starts at least 1 and rounds not empty; "
                f"got {self.keep}, {self.num_starts} and {self.rounds}."
            )


def multistart_icp(
    source: Points,
    target: Points,
    *,
    up_axis: UpAxis = "z",
    with_scale: bool = True,
    options: MultistartOptions | None = None,
) -> Registration:
    """Align a cloud (N, 3) to another (M, 3), from many turns at once.

    Arguments, result and errors are those of ``robust_icp``.
    """
    options = options or MultistartOptions()
    check_up_axis(up_axis)
    pair = normalise_together(source, target)
    thin = _thinned(pair.source), _thinned(pair.target)
    found = _search(*thin, options.starts(up_axis), with_scale, options)
    if options.with_seed_candidates:
        found = np.concatenate([found, coarse_candidates(pair, up_axis, with_scale, options.icp)])
    valid = np.array([move for move in found if is_valid(move, options.icp)] or [np.eye(4)])
    best_first = valid[np.argsort(_scores(valid, *thin, options), kind="stable")]
    chosen = _different(best_first, thin[0], options.same, options.num_fine)
    return _finished(pair, chosen, with_scale, options)


def _thinned(points: Floats) -> Floats:
    """Return the mean of the points of each voxel, so that density does not weigh."""
    low = points.min(axis=0)
    cells = np.floor((points - low) / (THIN_VOXEL * np.ptp(points, axis=0).max())).astype(np.int64)
    keys = (cells * np.array([1 << 40, 1 << 20, 1])).sum(axis=1)
    _, cell, counts = np.unique(keys, return_inverse=True, return_counts=True)
    sums = [np.bincount(cell, points[:, axis]) for axis in range(3)]
    return np.asarray(np.stack(sums, axis=1) / counts[:, None])


def _search(
    source: Floats, target: Floats, turns: Floats, with_scale: bool, options: MultistartOptions
) -> Floats:
    """Refine every start on few points, and the best different results again: (K, 4, 4)."""
    most = max(num_points for num_points, _, _ in options.rounds)
    source_most, target_most = (batched_icp.farthest_points(p, most) for p in (source, target))
    moves = _starts(source, target, turns, with_scale)
    for num_points, iterations, share in options.rounds:
        clouds = source_most[:num_points], target_most[:num_points]
        moves = batched_icp.refine(
            moves,
            *clouds,
            iterations=iterations,
            keep=options.keep,
            with_scale=with_scale,
            device=options.device,
        )
        moves = np.array([move for move in moves if is_valid(move, options.icp)])
        if len(moves) == 0:
            return np.eye(4)[None]
        scores = batched_icp.score(moves, *clouds, trim=options.icp.trim, device=options.device)
        best_first = moves[np.argsort(scores, kind="stable")]
        moves = _different(best_first, clouds[0], options.same, round(share * len(moves)))
    return moves


def _starts(source: Floats, target: Floats, turns: Floats, with_scale: bool) -> Floats:
    """Return two starts a turn: boxes upon each other, and means (with their spreads)."""
    target_low, target_high = target.min(axis=0), target.max(axis=0)
    target_mean, target_spread = target.mean(axis=0), target.std()
    source_mean, source_spread = source.mean(axis=0), source.std()
    starts = []
    for turn in turns:
        turned = source @ turn.T
        low, high = turned.min(axis=0), turned.max(axis=0)
        sides = np.linalg.norm(target_high - target_low) / np.linalg.norm(high - low)
        scale = float(sides) if with_scale else 1.0
        shift = (target_low + target_high) / 2 - scale * (low + high) / 2
        starts.append(similarity(scale, turn, shift))
        scale = float(target_spread / source_spread) if with_scale else 1.0
        starts.append(similarity(scale, turn, target_mean - scale * turn @ source_mean))
    return np.array(starts)


def _different(moves: Floats, points: Floats, same: float, most: int) -> Floats:
    """Return the first moves (K, 4, 4) that are no other one's double, at least one."""
    found: list[Floats] = []
    kept: list[Floats] = []
    for move in moves:
        moved = transform_points(move, points)
        if all(np.linalg.norm(moved - other, axis=1).mean() > same for other in kept):
            found.append(move)
            kept.append(moved)
        if len(found) >= max(most, 1):
            break
    return np.array(found)


def _scores(
    moves: Floats, source: Floats, target: Floats, options: MultistartOptions
) -> list[float]:
    icp = options.icp
    return [
        trimmed_chamfer(transform_points(move, source), target, trim=icp.trim, trim_as=icp.trim_as)
        for move in moves
    ]


def _finished(
    pair: NormalisedPair, chosen: Floats, with_scale: bool, options: MultistartOptions
) -> Registration:
    """Run the fine stage, wide on each chosen move and then narrow on the best, and keep the best.

    Wide (2 v) it bears objects that are each a little off; narrow (v, the robust ICP's own width)
    it is exact. No stage's result is kept that fits worse than the one before.
    """
    icp = options.icp
    surfaces = (
        fine_surface(pair.source, most=options.fine_points),
        fine_surface(pair.target, most=options.fine_points),
    )

    def finer(move: Floats, distance: float, iterations: int, stride: int) -> Floats:
        return fine_icp(
            move,
            *surfaces,
            distance=distance,
            tukey=1.5 * distance,
            iterations=iterations,
            with_scale=with_scale,
            stride=stride,
        )

    def best(moves: Sequence[Floats], stride: int) -> Floats:
        valid = [move for move in moves if is_valid(move, icp)] or [np.eye(4)]
        return min(valid, key=lambda move: misfit(move, stride))

    def misfit(move: Floats, stride: int) -> float:
        # At v alone one object that fits perfectly outweighs others that are all a little off; at
        # 2 v alone a cut cloud grows over what was cut off. The product weighs ratios; v twice.
        limits = (icp.voxel, 2 * icp.voxel)
        near, far = truncated_squares(move, *surfaces, limits, stride=stride)
        return near**2 * far

    wide = [finer(move, 2 * icp.voxel, options.wide_iterations, 4) for move in chosen]
    coarse = best([*chosen, *wide], 4)
    fine = best([coarse, finer(coarse, icp.voxel, options.fine_iterations, 1)], 1)
    stage: Stage = "coarse" if fine is coarse and not any(fine is move for move in wide) else "fine"
    fine = project_similarity(fine)
    fitness, rmse = fit_of(transform_points(fine, pair.source), pair.target, icp.voxel)
    return Registration(pair.in_input_units(fine), fitness, rmse, stage)
