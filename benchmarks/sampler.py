"""Time ``sample_layout`` beside the seed's procedure in plain Python and in bare loops of numba.

``python benchmarks/sampler.py``. All three draw from the same generators and must give the same
layouts. The bare loops are a simple use of numba: no grid, one function, arrays in and out, numbers
drawn before. (Passing the generator into them would cost more than the whole layout, and would
make ours look better.) Times are processor time of one thread, the best of a few runs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tyro
from numba import njit

from datagen.core.frames import Floats
from datagen.core.seeding import rng_for
from datagen.layouts import sample_layout

GAP_SCALE, MAX_TRIES, GROWTH = 0.4, 30, 1.1
BARE_DRAWS = 1024
"""More than any of the scenes takes; ours draws as many as it needs."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare the three."""

    num_layouts: int = 2000
    """Scenes of 2 to 12 disks."""

    plain_layouts: int = 100
    """Of these, how many the plain reference makes."""

    repeats: int = 5
    """Runs of each; the fastest counts."""


def plain_layout(radii: Floats, rng: np.random.Generator) -> Floats:
    """Return the centres (N, 2) of the seed's procedure as numpy says it, every pair looked at."""
    gap = np.mean(radii) * GAP_SCALE
    half = max(np.sqrt(2 * np.pi * np.sum(radii**2)) / 2, radii.max())
    centers: dict[int, Floats] = {}
    for index in np.argsort(-radii, kind="stable"):
        tries = 0
        while index not in centers:
            inner = half - radii[index]
            point = np.array([inner * (2 * rng.random() - 1), inner * (2 * rng.random() - 1)])
            tries += 1
            if all(
                np.linalg.norm(point - other) >= radii[index] + radii[j] + gap
                for j, other in centers.items()
            ):
                centers[index] = point
            elif tries == MAX_TRIES:
                half, tries = half * GROWTH, 0
    return np.array([centers[i] for i in range(len(radii))])


@njit
def bare_loops(radii, gap_scale, max_tries, draws):  # type: ignore[no-untyped-def]
    """Return centres (N, 2), in the order of the radii."""
    gap = radii.mean() * gap_scale
    half = max(np.sqrt(2 * np.pi * np.sum(radii**2)) / 2, radii.max())
    order = np.argsort(-radii, kind="mergesort")
    centers = np.zeros((len(radii), 2))
    placed = tries = draw = 0
    while placed < len(radii):
        index = order[placed]
        inner = half - radii[index]
        x = inner * (2.0 * draws[draw] - 1.0)
        y = inner * (2.0 * draws[draw + 1] - 1.0)
        draw += 2
        tries += 1
        apart = True
        for other in order[:placed]:
            distance = np.sqrt((x - centers[other, 0]) ** 2 + (y - centers[other, 1]) ** 2)
            if distance < radii[index] + radii[other] + gap:
                apart = False
                break
        if apart:
            centers[index, 0], centers[index, 1] = x, y
            placed, tries = placed + 1, 0
        elif tries == max_tries:
            half, tries = half * 1.1, 0
    return centers


def bare_layout(radii: Floats, rng: np.random.Generator) -> Floats:
    """Return the centres (N, 2) of the bare loops, which are given more numbers than they need."""
    return bare_loops(radii, GAP_SCALE, MAX_TRIES, rng.random(BARE_DRAWS))


def our_layout(radii: Floats, rng: np.random.Generator) -> Floats:
    """Return the centres (N, 2) of ``sample_layout``."""
    return sample_layout(radii, rng, gap_scale=GAP_SCALE, max_tries=MAX_TRIES).centers_m


def draw_only(radii: Floats, rng: np.random.Generator) -> Floats:
    """Draw what the bare loops are given: its time is not theirs."""
    return rng.random(BARE_DRAWS)


def draw_radii(count: int, name: str, index: int) -> Floats:
    """Return radii as scenes have them."""
    return rng_for(0, name, index).uniform(0.2, 0.8, count)


def seconds_each(
    layout: Callable[[Floats, np.random.Generator], Floats],
    scenes: list[Floats],
    repeats: int,
) -> float:
    """Return the processor time of one layout, generators left out; the best of several runs."""
    times = []
    for _ in range(repeats):
        generators = [rng_for(1, "draws", i) for i in range(len(scenes))]
        started = time.process_time()
        for radii, rng in zip(scenes, generators, strict=True):
            layout(radii, rng)
        times.append((time.process_time() - started) / len(scenes))
    return min(times)


def main(config: Compare) -> None:
    counts = rng_for(0, "counts").integers(2, 13, config.num_layouts)
    scenes = [draw_radii(int(count), "scene", i) for i, count in enumerate(counts)]
    for i, radii in enumerate(scenes):  # compiles both, too
        made = [layout(radii, rng_for(1, "draws", i)) for layout in (our_layout, bare_layout)]
        np.testing.assert_allclose(made[0], made[1], atol=1e-12)
        if i < config.plain_layouts:
            expected = plain_layout(radii, rng_for(1, "draws", i))
            np.testing.assert_allclose(made[0], expected, atol=1e-12)

    ours = seconds_each(our_layout, scenes, config.repeats)
    bare = seconds_each(bare_layout, scenes, config.repeats)
    bare -= seconds_each(draw_only, scenes, config.repeats)
    plain = seconds_each(plain_layout, scenes[: config.plain_layouts], 2)
    ours_same = seconds_each(our_layout, scenes[: config.plain_layouts], config.repeats)
    print(f"2 to 12 disks: ours {ours * 1e6:.1f} us, bare numba {bare * 1e6:.1f} us a layout")
    print(f"plain reference {plain * 1e6:.0f} us: ours is {plain / ours_same:.0f} times as fast")
    print(f"ours takes {ours / bare:.2f} times the bare loops")

    for size in (12, 100, 1000):
        crowd = [draw_radii(size, "crowd", i) for i in range(1 if size == 1000 else 20)]
        made = [way(crowd[0], rng_for(1, "draws", 0)) for way in (plain_layout, our_layout)]
        np.testing.assert_allclose(made[0], made[1], atol=1e-12)
        plain, ours = (seconds_each(way, crowd, 1) for way in (plain_layout, our_layout))
        print(f"{size} disks: {plain / ours:.0f} times as fast as the plain reference")

    per_object = {}
    for size, number in ((10, 1000), (100, 100), (1000, 10)):
        crowd = [draw_radii(size, "crowd", i) for i in range(number)]
        per_object[size] = seconds_each(our_layout, crowd, config.repeats) / size
        print(f"{size} disks a scene: {per_object[size] * 1e6:.2f} us a disk")
    print(f"a disk among 1000 costs {per_object[1000] / per_object[10]:.2f} times one among 10")


if __name__ == "__main__":
    main(tyro.cli(Compare))
