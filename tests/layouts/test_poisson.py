"""Protects the Poisson-disk sampler: its distance rule, and equality with a plain reference."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.core.seeding import rng_for
from datagen.errors import ConfigError, RowError
from datagen.layouts.poisson import REGION_GROWTH, pack_in_polygon, sample_layout


def reference_layout(radii, rng, *, gap_scale, max_tries, region_area_ratio=2.0):
    """The seed's procedure without a grid: every pair is looked at."""
    gap = np.mean(radii) * gap_scale
    order = np.argsort(-radii, kind="stable")
    half = max(np.sqrt(region_area_ratio * np.pi * np.sum(radii**2)) / 2, radii.max())
    centers, expansions = {}, 0
    for index in order:
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
            elif tries == max_tries:
                half, tries, expansions = half * REGION_GROWTH, 0, expansions + 1
    return np.array([centers[i] for i in range(len(radii))]), half, expansions


@given(
    radii=st.lists(st.floats(0.05, 2.0), min_size=1, max_size=12),
    gap_scale=st.floats(0.0, 1.0),
    max_tries=st.integers(1, 30),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_disks_keep_their_distance_and_stay_in_the_region(radii, gap_scale, max_tries, seed):
    radii = np.array(radii)
    rng = rng_for(seed, "test")
    result = sample_layout(radii, rng, gap_scale=gap_scale, max_tries=max_tries)
    assert result.gap_m == pytest.approx(radii.mean() * gap_scale)
    assert np.all(np.abs(result.centers_m) + radii[:, None] <= result.region_half_m + 1e-12)
    for i in range(len(radii)):
        for j in range(i):
            distance = np.linalg.norm(result.centers_m[i] - result.centers_m[j])
            assert distance >= radii[i] + radii[j] + result.gap_m - 1e-12


@pytest.mark.parametrize("seed", range(40))
def test_grid_gives_the_same_layout_as_comparing_every_pair(seed):
    radii = rng_for(seed, "radii").uniform(0.1, 1.0, 2 + seed % 11)
    options = {"gap_scale": 0.1 + seed / 50, "max_tries": 10}
    result = sample_layout(radii, rng_for(seed, "draws"), **options)
    centers, half, expansions = reference_layout(radii, rng_for(seed, "draws"), **options)
    np.testing.assert_allclose(result.centers_m, centers, atol=1e-12)
    assert result.region_half_m == pytest.approx(half, rel=1e-12)
    assert result.expansions == expansions


def test_first_region_has_twice_the_area_of_the_disks():
    radii = np.full(3, 0.5)
    result = sample_layout(radii, rng_for(0, "area"), gap_scale=0.0, max_tries=10_000)
    side = 2 * result.region_half_m / REGION_GROWTH**result.expansions
    assert side**2 == pytest.approx(2 * 3 * np.pi * 0.25)


def test_thousand_disks_are_all_placed():
    radii = rng_for(0, "many").uniform(0.1, 0.6, 1000)
    result = sample_layout(radii, rng_for(1, "many"), gap_scale=0.3, max_tries=30)
    distance = np.linalg.norm(result.centers_m[:, None] - result.centers_m[None], axis=-1)
    room = radii[:, None] + radii[None] + result.gap_m
    np.fill_diagonal(distance, np.inf)
    assert np.all(distance >= room - 1e-12)


@pytest.mark.parametrize("radii", [[], [0.0], [-1.0], [np.nan], [[1.0]]])
def test_impossible_radii_are_refused(radii):
    with pytest.raises(ConfigError, match="radii_m"):
        sample_layout(np.array(radii, float), rng_for(0), gap_scale=0.5, max_tries=3)


def test_disks_that_never_fit_fail_with_a_reason():
    radii = np.full(30, 0.5)
    with pytest.raises(RowError, match=r"no place for 30 disks .* grew 1 times"):
        sample_layout(radii, rng_for(0), gap_scale=2.0, max_tries=1, max_expansions=1)


def test_tiny_disk_among_huge_ones_without_a_gap_needs_no_huge_grid():
    radii = np.array([1.0, 1e-6, 1.0, 1e-6])
    options = {"gap_scale": 0.0, "max_tries": 5}
    result = sample_layout(radii, rng_for(3, "draws"), **options)
    centers, half, _ = reference_layout(radii, rng_for(3, "draws"), **options)
    np.testing.assert_allclose(result.centers_m, centers, atol=1e-12)
    assert result.region_half_m == pytest.approx(half, rel=1e-12)


L_SHAPE = shapely.Polygon([(0, 0), (2, 0), (2, 0.5), (0.5, 0.5), (0.5, 2), (0, 2)])
HOLED = shapely.box(-1, -1, 1, 1).difference(shapely.Point(0.2, 0).buffer(0.4))


def edges_of(polygon):
    rings = [np.array(ring.coords) for ring in (polygon.exterior, *polygon.interiors)]
    return np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings])


@given(
    polygon=st.sampled_from([L_SHAPE, HOLED]),
    radii=st.lists(st.floats(0.05, 0.4), min_size=1, max_size=5),
    gap_scale=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_packed_disks_lie_inside_the_polygon_and_apart(polygon, radii, gap_scale, seed):
    radii = np.array(radii)
    rng = rng_for(seed, "test")
    options = {"gap_scale": gap_scale, "max_tries": 30, "min_share": 0.01}
    packed = pack_in_polygon(edges_of(polygon), radii, rng, **options)
    assert 0.01 <= packed.share <= 1
    left, gap = radii * packed.share, radii.mean() * gap_scale * packed.share
    for i, center in enumerate(packed.centers_m):
        assert polygon.contains(shapely.Point(center))
        assert polygon.boundary.distance(shapely.Point(center)) >= left[i] - 1e-12
        for j in range(i):
            assert np.linalg.norm(center - packed.centers_m[j]) >= left[i] + left[j] + gap - 1e-12


def test_disks_that_fit_keep_their_size_and_disks_that_never_fit_give_none():
    edges, rng = edges_of(shapely.box(0, 0, 1, 1)), rng_for(0)
    options = {"gap_scale": 0.1, "max_tries": 1000}
    assert pack_in_polygon(edges, np.full(2, 0.1), rng, min_share=0.9, **options).share == 1
    assert pack_in_polygon(edges, np.full(2, 0.5), rng, min_share=0.9, **options) is None


def reference_pack(polygon, radii, rng, *, gap_scale, max_tries, min_share):
    """The rule in plain words: what stands stays, and radii and gap shrink by one factor."""
    left, bottom, right, top = polygon.bounds
    order = np.argsort(-radii, kind="stable")
    gap, share, centers, tries = np.mean(radii) * gap_scale, 1.0, {}, 0
    while len(centers) < len(radii) and share >= min_share:
        index = order[len(centers)]
        x = left + (right - left) * rng.random()
        point = np.array([x, bottom + (top - bottom) * rng.random()])
        tries += 1
        is_inside = polygon.contains(shapely.Point(point))
        edge_m = polygon.boundary.distance(shapely.Point(point))
        if (
            is_inside
            and edge_m >= radii[index] * share
            and all(
                np.linalg.norm(point - other) >= (radii[index] + radii[j] + gap) * share
                for j, other in centers.items()
            )
        ):
            centers[index], tries = point, 0
        elif tries == max_tries:
            share, tries = share / REGION_GROWTH, 0
    return np.array([centers[i] for i in range(len(radii))]), share


@pytest.mark.parametrize("polygon", [L_SHAPE, HOLED])
@pytest.mark.parametrize("seed", range(10))
def test_packing_is_the_one_of_the_plain_rule(polygon, seed):
    radii = rng_for(seed, "radii").uniform(0.05, 0.4, 2 + seed % 4)
    options = {"gap_scale": 0.3 * seed, "max_tries": 12, "min_share": 0.01}
    packed = pack_in_polygon(edges_of(polygon), radii, rng_for(seed, "draws"), **options)
    centers, share = reference_pack(polygon, radii, rng_for(seed, "draws"), **options)
    np.testing.assert_allclose(packed.centers_m, centers, atol=1e-12)
    assert packed.share == pytest.approx(share, rel=1e-12)
