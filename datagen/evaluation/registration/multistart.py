"""Beyond the robust ICP: all starting rotations are refined at once, and scale stays free."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from datagen.core.frames import Floats, transform_points
from datagen.errors import ConfigError
from datagen.evaluation.points import Points
from datagen.evaluation.registration import batched_icp
from datagen.evaluation.registration.fine_icp import (
    fine_icp,
    fine_surface,
    median_gap,
    truncated_squares,
)
from datagen.evaluation.registration.robust_icp import (
    IcpOptions,
    NormalisedPair,
    Phase,
    Registration,
    check_up_axis,
    coarse_candidates,
    fit_of,
    is_valid,
    normalise_together,
)
from datagen.evaluation.registration.similarity import (
    UpAxis,
    axis_rotations,
    evenly_spaced_rotations,
    project_similarity,
    similarity,
)

THIN_VOXEL = 0.02
"""Of a cloud's longest side: voxels that its points are averaged in before the search."""


CloudPair = tuple[Floats, Floats]
"""Source (N, 3) and target (M, 3)."""

GAPS_WIDE = 4.0
"""Width of the fine phase in median gaps: nearly all true pairs are nearer."""


@dataclass(frozen=True, kw_only=True)
class MultistartOptions:
    """The numbers of the multi-start registration; lengths in normalised units."""

    rotations: Literal["yaw", "all"] = "yaw"
    """Starts: rotations about the up axis, or evenly spaced over SO(3)."""

    num_starts: int | None = None
    """How many rotations; None is 24 about the up axis, 200 over SO(3)."""

    rounds: tuple[tuple[int, int, float], ...] = ((256, 8, 0.25), (256, 8, 0.5), (768, 6, 1.0))
    """Points a cloud, iterations, and share of starts kept, of each refinement."""

    num_fine: int = 8
    """Distinct results, best first, that reach the fine phase."""

    wide_iterations: int = 8
    fine_iterations: int = 12
    last_iterations: int = 6
    """Of the fine phase: on each result; on the best; and again there with all points."""

    widths: tuple[float, float] = (0.15, 0.05)
    """Of the kernel that weighs the pairs: at the start of the first round, and from its end on."""

    limit: float = 0.1
    """Longest distance that counts when results are ranked."""

    same: float = 0.02
    """Results whose moved points differ by less, on average, are one result."""

    fine_points: int = 5000
    """Most points of each cloud in the fine phase."""

    with_seed_candidates: bool = True
    """Whether the robust ICP's coarse results, of both spaces, are in the pool (needs Open3D)."""

    device: str = "cpu"
    """Where torch refines."""

    icp: IcpOptions = field(default_factory=IcpOptions)
    """The robust ICP's numbers: of its candidates, and of the fine phase."""

    def starts(self, up_axis: UpAxis) -> Floats:
        """Return the starting rotations (num, 3, 3)."""
        if self.rotations == "yaw":
            return axis_rotations(up_axis, self.num_starts or 24)
        return evenly_spaced_rotations(self.num_starts or 200)

    def __post_init__(self) -> None:
        lengths = (*self.widths, self.limit)
        if min(lengths) <= 0 or (self.num_starts or 1) < 1 or not self.rounds:
            raise ConfigError(
                "multistart: widths and limit must be above 0, num_starts at least 1 and rounds "
                f"not empty; got {lengths}, {self.num_starts} and {self.rounds}."
            )


def multistart_icp(
    source: Points,
    target: Points,
    *,
    up_axis: UpAxis = "z",
    with_scale: bool = True,
    options: MultistartOptions | None = None,
) -> Registration:
    """Align a cloud (N, 3) to another (M, 3), from many rotations at once.

    Arguments, result and errors are those of ``robust_icp``.
    """
    [found] = multistart_icp_batch(
        [(source, target)], up_axis=up_axis, with_scale=with_scale, options=options
    )
    return found


def multistart_icp_batch(
    pairs: Sequence[tuple[Points, Points]],
    *,
    up_axis: UpAxis = "z",
    with_scale: bool = True,
    options: MultistartOptions | None = None,
) -> list[Registration]:
    """Align many sources (N, 3) each to its target (M, 3); a result does not depend on the others.

    The search of all pairs is one batch on ``options.device``; the robust ICP's candidates and the
    fine phase run on the CPU, one pair after another.

    Raises:
        RowError: a cloud has fewer than 3 points, no extent, or numbers that are not finite.
        StageError: Open3D cannot be imported, and its candidates are asked for.
    """
    options = options or MultistartOptions()
    check_up_axis(up_axis)
    normalised = [normalise_together(source, target) for source, target in pairs]
    sparse, starts = [], []
    for pair in normalised:
        thin = _thinned(pair.source), _thinned(pair.target)
        starts.append(_starts(*thin, options.starts(up_axis), with_scale))
        sparse.append(_sparse(*thin, options))
    searched = _search(starts, sparse, with_scale, options)
    results = []
    for pair, clouds, found in zip(normalised, sparse, searched, strict=True):
        if options.with_seed_candidates:
            seeds = coarse_candidates(pair, up_axis, with_scale, options.icp)
            # Open3D sums in the order in which its threads end; float32 hides the difference.
            found = np.concatenate([found, seeds.astype(np.float32)])
        [best_first] = _in_order([found], [clouds], options)
        chosen = _different(best_first, clouds[0], options.same, options.num_fine)
        results.append(_finished(pair, chosen, with_scale, options))
    return results


def _thinned(points: Floats) -> Floats:
    """Return the mean of the points of each voxel, so that density does not weigh."""
    low = points.min(axis=0)
    cells = np.floor((points - low) / (THIN_VOXEL * np.ptp(points, axis=0).max())).astype(np.int64)
    keys = (cells * np.array([1 << 40, 1 << 20, 1])).sum(axis=1)
    _, cell, counts = np.unique(keys, return_inverse=True, return_counts=True)
    sums = [np.bincount(cell, points[:, axis]) for axis in range(3)]
    return np.asarray(np.stack(sums, axis=1) / counts[:, None])


def _sparse(source: Floats, target: Floats, options: MultistartOptions) -> CloudPair:
    """Return the points of each cloud, far apart, that the largest round needs."""
    most = max(num_points for num_points, _, _ in options.rounds)
    return (
        batched_icp.farthest_points(source, most),
        batched_icp.farthest_points(target, most),
    )


def _search(
    starts: Sequence[Floats],
    sparse: Sequence[CloudPair],
    with_scale: bool,
    options: MultistartOptions,
) -> list[Floats]:
    """Refine each pair's starts on few points, and its best different results again: (K, 4, 4)."""
    found, (first, last) = list(starts), options.widths
    for num_points, iterations, share in options.rounds:
        clouds = [(source[:num_points], target[:num_points]) for source, target in sparse]
        numbers = {"widths": np.geomspace(first, last, iterations), "with_scale": with_scale}
        refined = _batched(batched_icp.refine, found, clouds, options, **numbers)
        first = last
        found = [
            _different(moves, source, options.same, round(share * len(moves)))
            for moves, (source, _) in zip(_in_order(refined, clouds, options), clouds, strict=True)
        ]
    return found


def _in_order(
    moves: Sequence[Floats], clouds: Sequence[CloudPair], options: MultistartOptions
) -> list[Floats]:
    """Return each pair's valid moves (K, 4, 4), best first."""
    valid = [
        np.array([move for move in of_pair if is_valid(move, options.icp)] or [np.eye(4)])
        for of_pair in moves
    ]
    scores = _batched(batched_icp.score, valid, clouds, options, limit=options.limit)
    return [
        of_pair[np.argsort(score, kind="stable")]
        for of_pair, score in zip(valid, scores, strict=True)
    ]


def _batched(
    function: Callable[..., Floats],
    moves: Sequence[Floats],
    clouds: Sequence[CloudPair],
    options: MultistartOptions,
    **numbers: Any,
) -> list[Floats]:
    """Return the function's result for each pair's moves (K, 4, 4): (K, …).

    Pairs of equally many points are one batch; only clouds of very few points are in another.
    """
    results: list[Floats] = [np.empty(0)] * len(clouds)
    for alike in _of_one_shape(clouds):
        counts = [len(moves[index]) for index in alike]
        made = function(
            np.concatenate([moves[index] for index in alike]),
            np.stack([clouds[index][0] for index in alike]),
            np.stack([clouds[index][1] for index in alike]),
            np.repeat(np.arange(len(alike)), counts),
            device=options.device,
            **numbers,
        )
        for index, part in zip(alike, np.split(made, np.cumsum(counts)[:-1]), strict=True):
            results[index] = part
    return results


def _of_one_shape(clouds: Sequence[CloudPair]) -> list[list[int]]:
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (source, target) in enumerate(clouds):
        groups.setdefault((len(source), len(target)), []).append(index)
    return list(groups.values())


def _starts(source: Floats, target: Floats, rotations: Floats, with_scale: bool) -> Floats:
    """Return two starts a rotation: equal boxes; equal means and standard deviations."""
    target_low, target_high = target.min(axis=0), target.max(axis=0)
    target_mean, target_std = target.mean(axis=0), target.std()
    source_mean, source_std = source.mean(axis=0), source.std()
    starts = []
    for rotation in rotations:
        rotated = source @ rotation.T
        low, high = rotated.min(axis=0), rotated.max(axis=0)
        sides = np.linalg.norm(target_high - target_low) / np.linalg.norm(high - low)
        scale = float(sides) if with_scale else 1.0
        shift = (target_low + target_high) / 2 - scale * (low + high) / 2
        starts.append(similarity(scale, rotation, shift))
        scale = float(target_std / source_std) if with_scale else 1.0
        starts.append(similarity(scale, rotation, target_mean - scale * rotation @ source_mean))
    return np.array(starts)


def _different(moves: Floats, points: Floats, same: float, most: int) -> Floats:
    """Return the first moves (K, 4, 4) that differ from one another, at least one."""
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


def _finished(
    pair: NormalisedPair, chosen: Floats, with_scale: bool, options: MultistartOptions
) -> Registration:
    """Run the fine phase, wide on each chosen move, then as wide as the best one needs.

    A width of 2 v tolerates objects that are each a little off, but makes a cut cloud grow over the
    missing part. So the width follows the remaining gaps, from v, as in the robust ICP, to 2 v. A
    result that fits worse than the one before is dropped.
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

    def best(moves: Sequence[Floats], limit: float) -> Floats:
        valid = [move for move in moves if is_valid(move, icp)] or [np.eye(4)]
        return min(valid, key=lambda move: truncated_squares(move, *surfaces, limit, stride=4))

    widest = 2 * icp.voxel
    wide = [finer(move, widest, options.wide_iterations, 4) for move in chosen]
    gap = median_gap(best([*chosen, *wide], widest), *surfaces, widest, stride=4)
    width = min(max(GAPS_WIDE * gap, icp.voxel), widest)
    coarse = best([*chosen, *wide], width)
    settled = finer(coarse, width, options.fine_iterations, 4)
    fine = best([coarse, settled, finer(settled, width, options.last_iterations, 1)], width)
    phase: Phase = "coarse" if any(fine is move for move in chosen) else "fine"
    fine = project_similarity(fine)
    fitness, rmse = fit_of(transform_points(fine, pair.source), pair.target, icp.voxel)
    return Registration(pair.in_input_units(fine), fitness, rmse, phase)
