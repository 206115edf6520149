"""Align pairs whose pose is known: the robust ICP, and multistart beside it.

``python benchmarks/registration.py --assets FOLDER --pairs 640 --out FILE.jsonl``; without assets,
on procedural objects. A pair is 20,000 points of a surface of extent 1, and 20,000 others of it, of
which 20 % are cut off along a random direction, with noise (σ 0.005), rotated, scaled by 0.8–1.25
and shifted by up to 0.3. A quarter of the surfaces are scenes of 3 to 6 objects.

- ``yaw`` (rotated about the up axis), ``tilt20`` (the up axis also tilted by 20°) and ``so3``
  (rotated arbitrarily) count as aligned when the trimmed symmetric Chamfer distance is below 0.01;
  in the column "or rotation right", also when the rotation is right to 5°.
- ``perturbed`` are predictions of scenes of 2 to 7 objects: an object is rotated (σ 10°), shifted
  (σ 0.04 in [−1, 1]) and stretched (±12 % an axis), one in ten is left out, the whole is rotated
  and given in its own box.
- ``damaged`` are twice as far off (σ 0.04 of the scene's extent), of 3 to 6 objects, scaled and
  shifted like the pairs above.

For the last two, F@0.1 in [−1, 1] after aligning is compared with F@0.1 at the known pose, refined.
"Nearly as good" is at most 2 points below it; "within 2 points" is also at most 2 above; "near the
best" is at most 2 below the best of all that were tried.

Every pair is a line of the output; a second run makes only the missing ones.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from datagen.assets.procedural.shapes import merge
from datagen.assets.procedural.source import KINDS, sample_shape
from datagen.core.frames import Floats, transform_points
from datagen.core.meshes import Mesh
from datagen.core.seeding import rng_for
from datagen.evaluation import AlignOptions, MultistartOptions, align_clouds, f_score
from datagen.evaluation.points import sample_surface
from datagen.evaluation.registration.fine_icp import fine_icp, fine_surface
from datagen.evaluation.registration.similarity import (
    own_box_to_unit,
    range_to_unit,
    scale_of,
    similarity,
)
from datagen.evaluation.registration.trimmed import trimmed_chamfer
from datagen.training.embedded.random_voxels import find_geometry, read_geometry

NUM_POINTS = 20_000
ALIGNED = 0.01
METHODS = {
    "robust ICP": AlignOptions(),
    "multistart": AlignOptions(align="multistart"),
}
PREDICTIONS = {"perturbed": ((2, 7), 0.02), "damaged": ((3, 6), 0.04)}
"""Fewest and most objects, and how far they are shifted, of the scene's extent."""
ANY_ROTATION = AlignOptions(align="multistart", multistart=MultistartOptions(rotations="all"))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Align known pairs, and print how often each method does."""

    assets: tuple[Path, ...] = ()
    """Asset folders; every few of their objects are taken."""

    pairs: int = 60
    """Pairs rotated about the up axis; a quarter as many of each other kind."""

    surfaces: int = 16
    """Different surfaces, a quarter of them scenes."""

    out: Path = Path("registration.jsonl")
    """One line a pair; pairs in it are not made again."""

    threads: int = 2
    """Of torch. More than are free make it wait for them."""


@dataclass(frozen=True)
class Pair:
    """Two clouds, and the pose between them."""

    source: Floats
    target: Floats
    pose: Floats
    """(4, 4), source to target."""


def objects(config: Benchmark) -> list[Mesh]:
    """Return meshes of extent 1, Z up, centred."""
    if config.assets:
        paths = find_geometry(config.assets)
        meshes = [read_geometry(p) for p in paths[:: max(1, len(paths) // 60)]]
    else:
        parts = [merge(sample_shape(0, index).build()) for index in range(2 * len(KINDS))]
        meshes = [(part.vertices, part.faces) for part in parts]
    return [(_extent_one(vertices), faces) for vertices, faces in meshes]


def _extent_one(vertices: NDArray[np.floating]) -> Floats:
    vertices = np.asarray(vertices, np.float64)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return (vertices - (low + high) / 2) / (high - low).max()


def scene(
    meshes: list[Mesh], rng: np.random.Generator, counts: tuple[int, int] = (3, 6)
) -> list[Mesh]:
    """Return so few to so many objects around a place, together of extent 1."""
    count = int(rng.integers(counts[0], counts[1] + 1))
    chosen = [meshes[i] for i in rng.choice(len(meshes), count, replace=False)]
    side = math.ceil(math.sqrt(len(chosen)))
    placed = []
    for index, (vertices, faces) in enumerate(chosen):
        place = np.array([index % side, index // side, 0.0]) + [*rng.uniform(-0.15, 0.15, 2), 0]
        turn = Rotation.from_rotvec([0, 0, rng.uniform(0, 2 * np.pi)]).as_matrix()
        standing = vertices * rng.uniform(0.4, 1.0) @ turn.T
        placed.append((standing - [0, 0, standing[:, 2].min()] + place, faces))
    everything = np.concatenate([vertices for vertices, _ in placed])
    low, high = everything.min(axis=0), everything.max(axis=0)
    return [((v - (low + high) / 2) / (high - low).max(), f) for v, f in placed]


def surface_of(meshes: list[Mesh], config: Benchmark, number: int) -> list[Mesh]:
    """Return surface ``number``: one object, or in every fourth a scene."""
    number %= config.surfaces
    if number % 4 == 3:
        return scene(meshes, rng_for(0, "registration", "scene", number))
    return [meshes[number * len(meshes) // config.surfaces]]


def clouds_of(things: list[Mesh], num: int, rng: np.random.Generator) -> Floats:
    """Return points (num, 3), equally many a thing."""
    counts = np.diff(np.linspace(0, num, len(things) + 1).astype(int))
    return np.concatenate(
        [sample_surface(mesh, int(count), rng) for mesh, count in zip(things, counts, strict=True)]
    )


def random_pose(kind: str, rng: np.random.Generator) -> Floats:
    """Return target to source, (4, 4)."""
    turn = Rotation.from_rotvec([0, 0, rng.uniform(0, 2 * np.pi)])
    if kind == "tilt20":
        direction = rng.uniform(0, 2 * np.pi)
        tilt = np.radians(20) * np.array([np.cos(direction), np.sin(direction), 0])
        turn = Rotation.from_rotvec(tilt) * turn
    if kind == "so3":
        turn = Rotation.random(random_state=int(rng.integers(2**31)))
    return similarity(rng.uniform(0.8, 1.25), turn.as_matrix(), rng.uniform(-0.3, 0.3, 3))


def make_pair(kind: str, number: int, meshes: list[Mesh], config: Benchmark) -> Pair:
    """Return pair ``number`` of a kind."""
    rng = rng_for(0, "registration", kind, number)
    if kind in PREDICTIONS:
        counts, shift = PREDICTIONS[kind]
        things = scene(meshes, rng, counts)
        target, source = clouds_of(things, NUM_POINTS, rng), _damaged(things, shift, rng)
    else:
        things = surface_of(meshes, config, number)
        target = clouds_of(things, NUM_POINTS, rng)
        source = clouds_of(things, NUM_POINTS * 5 // 4, rng)
        along = source @ rng.normal(size=3)
        source = source[np.sort(np.argsort(along)[:NUM_POINTS])]
        source = source + rng.normal(scale=0.005, size=source.shape)
    pose = random_pose(kind, rng)
    if kind == "perturbed":
        pose = range_to_unit(-2, 2) @ own_box_to_unit(transform_points(pose, source)) @ pose
    return Pair(transform_points(pose, source), target, np.linalg.inv(pose))


def _damaged(things: list[Mesh], shift: float, rng: np.random.Generator) -> Floats:
    kept = [thing for thing in things if rng.random() >= 0.1] or things[:1]
    damaged = []
    for vertices, faces in kept:
        middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
        turn = Rotation.from_rotvec([0, 0, rng.normal(scale=np.radians(10))]).as_matrix()
        stretched = (vertices - middle) * rng.uniform(0.88, 1.12, 3) @ turn.T
        damaged.append((stretched + middle + rng.normal(scale=shift, size=3), faces))
    return clouds_of(damaged, NUM_POINTS, rng)


def judge(kind: str, pair: Pair, transform: Floats) -> dict[str, float]:
    """Return what a transform (4, 4) is worth."""
    moved = transform_points(transform, pair.source)
    if kind in PREDICTIONS:
        return {"f_score": f_score(2 * moved, 2 * pair.target, 0.1)}
    between = transform[:3, :3] @ np.linalg.inv(pair.pose[:3, :3])
    scale = scale_of(transform) / scale_of(pair.pose)
    cosine = (np.trace(between) / scale - 1) / 2
    return {
        "distance": trimmed_chamfer(moved, pair.target),
        "degrees": float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
        "scale_error": abs(scale - 1),
    }


def known_pose(kind: str, pair: Pair) -> Floats:
    """Return the pose; of predictions refined, since no pose of theirs is exact."""
    if kind not in PREDICTIONS:
        return pair.pose
    surfaces = [fine_surface(points, most=8000) for points in (pair.source, pair.target)]
    numbers = {"distance": 0.05, "tukey": 0.075, "iterations": 25, "with_scale": True}
    refined = fine_icp(pair.pose, *surfaces, **numbers)
    return max((pair.pose, refined), key=lambda pose: judge(kind, pair, pose)["f_score"])


def measure(kind: str, number: int, meshes: list[Mesh], config: Benchmark) -> Iterator[dict]:
    """Return a line a method."""
    pair = make_pair(kind, number, meshes, config)
    methods: dict[str, Callable[[], Floats]] = {
        name: lambda options=options: align_clouds(pair.source, pair.target, options).transform
        for name, options in METHODS.items()
    }
    if kind == "so3":
        methods["multistart"] = lambda: (
            align_clouds(pair.source, pair.target, ANY_ROTATION).transform
        )
    methods["known pose"] = lambda: known_pose(kind, pair)
    for name, method in methods.items():
        wall, cpu = time.perf_counter(), time.process_time()
        transform = method()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        line = {"kind": kind, "number": number, "method": name, "wall_s": wall, "cpu_s": cpu}
        yield line | judge(kind, pair, transform)


def plan(config: Benchmark) -> list[tuple[str, int]]:
    """Return kinds and numbers, mixed, so that half a run is a smaller run."""
    pairs = []
    for number in range(config.pairs):
        pairs.append(("yaw", number))
        if number % 4 == 0:
            pairs += [(kind, number // 4) for kind in ("tilt20", *PREDICTIONS, "so3")]
    return pairs


def table(lines: list[dict]) -> str:
    """Return how each method did, by kind of pair."""
    rows = []
    for kind in dict.fromkeys(line["kind"] for line in lines):
        of_kind = {name: _by_number(lines, kind, name) for name in [*METHODS, "known pose"]}
        for name, chosen in of_kind.items():
            seconds = (
                f"{np.median([x['wall_s'] for x in chosen.values()]):5.2f} s "
                f"({np.median([x['cpu_s'] for x in chosen.values()]):4.2f} s of processor)"
            )
            head = f"{kind:8s} {name:11s} {len(chosen):4d} pairs  "
            verdict = _closeness(chosen, of_kind) if kind in PREDICTIONS else _alignment(chosen)
            rows.append(f"{head}{verdict}  {seconds}")
    return "\n".join(rows)


def _by_number(lines: list[dict], kind: str, method: str) -> dict[int, dict]:
    return {x["number"]: x for x in lines if (x["kind"], x["method"]) == (kind, method)}


def _alignment(chosen: dict[int, dict]) -> str:
    near = np.array([line["distance"] < ALIGNED for line in chosen.values()])
    rotation_right = np.array([line["degrees"] < 5 for line in chosen.values()])
    scale = np.quantile([line["scale_error"] for line in chosen.values()], 0.9)
    return (
        f"aligned {near.mean():6.1%}, or rotation right {(near | rotation_right).mean():6.1%}, "
        f"scale error (9 of 10 below) {scale:5.1%}"
    )


def _closeness(chosen: dict[int, dict], of_kind: dict[str, dict[int, dict]]) -> str:
    scores = np.array([chosen[number]["f_score"] for number in chosen])
    every = np.array(
        [[lines[number]["f_score"] for number in chosen] for lines in of_kind.values()]
    )
    at_pose, best = every[-1], every.max(axis=0)
    return (
        f"F@0.1 {scores.mean():.3f}, nearly as good as the known pose "
        f"{(scores >= at_pose - 0.02).mean():6.1%}, within 2 points "
        f"{(np.abs(scores - at_pose) <= 0.02).mean():6.1%}, near the best "
        f"{(scores >= best - 0.02).mean():6.1%}"
    )


def main(config: Benchmark) -> None:
    """Make the missing pairs and print the table."""
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(config.threads)
    lines = []
    if config.out.exists():
        lines = [json.loads(line) for line in config.out.read_text().splitlines()]
    done = {(line["kind"], line["number"]) for line in lines if line["method"] == "known pose"}
    meshes = objects(config)
    with config.out.open("a") as out:
        for kind, number in plan(config):
            if (kind, number) in done:
                continue
            made = list(measure(kind, number, meshes, config))
            out.write("".join(json.dumps(line) + "\n" for line in made))
            out.flush()
            lines += made
    print(table(lines))


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
