"""Protects composed scenes: numbers, sizes, rotations, and stacked objects that fit."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from datagen.core.frames import yaw_rotation
from datagen.core.seeding import rng_for
from datagen.layouts.compose import CompositionRules, category_groups, compose_scene
from datagen.layouts.stacking import Placeable, PlaceableSupport

RULES = CompositionRules(
    min_objects=2,
    max_objects=12,
    gap_scale_range=(0.1, 1.0),
    longest_side_range_m=(0.6, 1.2),
    stack_probability=0.5,
    max_tries=30,
    region_area_ratio=2.0,
)


def rectangle(low, high):
    corners = np.array([low, (high[0], low[1]), high, (low[0], high[1])], float)
    return np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)


TABLE = Placeable(
    "table",
    (1.6, 0.8, 0.7),
    0.9,
    PlaceableSupport(0.7, (0.1, 0.0), 0.35, np.inf, rectangle((-0.6, -0.35), (0.8, 0.35))),
)
SHELF = Placeable(
    "shelf",
    (1.0, 0.4, 1.0),
    0.54,
    PlaceableSupport(0.4, (0.0, 0.0), 0.18, 0.25, rectangle((-0.48, -0.18), (0.48, 0.18))),
)
BOX = Placeable("box", (0.5, 0.5, 0.5), 0.36, None)
ASSETS = {asset.asset_id: asset for asset in (TABLE, SHELF, BOX)}


def scenes(rules=RULES, count=400, assets=(TABLE, SHELF, BOX)):
    return [compose_scene(assets, rules, rng_for(3, "test", i)) for i in range(count)]


def test_counts_are_uniform_over_two_to_twelve():
    counts = np.bincount([len(scene.placements) for scene in scenes(count=2200)], minlength=13)
    assert counts[:2].sum() == 0
    assert chisquare(counts[2:]).pvalue > 0.001


def test_longest_sides_are_as_drawn_except_for_stacked_objects():
    for scene in scenes():
        for placement in scene.placements:
            side = placement.scale * max(ASSETS[placement.asset_id].extent_m)
            assert side <= 1.2 + 1e-12
            if placement.supported_by < 0:
                assert side >= 0.6 - 1e-12


def test_stacked_object_stands_on_its_anchor_and_fits():
    stacked = 0
    for scene in scenes():
        for index, placement in enumerate(scene.placements):
            if placement.supported_by < 0:
                assert placement.position_m[2] == 0
                continue
            stacked += 1
            assert placement.supported_by < index, "the supporter stands before what it carries"
            table = scene.placements[placement.supported_by]
            support = ASSETS[table.asset_id].support
            item = ASSETS[placement.asset_id]
            offset = placement.position_m - table.position_m
            rotated = np.array(
                [
                    np.cos(-table.yaw_rad) * offset[0] - np.sin(-table.yaw_rad) * offset[1],
                    np.sin(-table.yaw_rad) * offset[0] + np.cos(-table.yaw_rad) * offset[1],
                ]
            )
            np.testing.assert_allclose(rotated / table.scale, support.anchor_xy_m, atol=1e-12)
            assert offset[2] == pytest.approx(table.scale * support.height_m)
            assert placement.scale * item.radius_m <= table.scale * support.clearance_m
            assert placement.scale * item.extent_m[2] <= table.scale * support.headroom_m
    assert stacked > 100


def test_no_supporter_carries_two_and_nothing_stands_on_a_stacked_object():
    for scene in scenes():
        supporters = [p.supported_by for p in scene.placements if p.supported_by >= 0]
        assert len(set(supporters)) == len(supporters)
        assert all(scene.placements[index].supported_by < 0 for index in supporters)


def test_stack_probability_zero_stacks_nothing_and_one_stacks_wherever_possible():
    assert all(
        p.supported_by < 0
        for scene in scenes(replace(RULES, stack_probability=0.0))
        for p in scene.placements
    )
    pair = scenes(replace(RULES, stack_probability=1.0, min_objects=2, max_objects=2), 50, (TABLE,))
    assert all(scene.placements[1].supported_by == 0 for scene in pair)


def test_objects_on_the_ground_keep_their_own_size_without_a_side_range():
    for scene in scenes(replace(RULES, longest_side_range_m=None), count=50):
        assert all(p.scale == 1.0 for p in scene.placements if p.supported_by < 0)


def test_yaw_is_uniform_and_positions_prefer_no_direction():
    placements = [p for scene in scenes(count=1500) for p in scene.placements]
    yaws = np.array([p.yaw_rad for p in placements])
    assert yaws.min() >= 0 and yaws.max() < 2 * np.pi
    assert chisquare(np.histogram(yaws, 36, (0, 2 * np.pi))[0]).pvalue > 0.001
    ground = np.array([p.position_m[:2] for p in placements if p.supported_by < 0])
    assert np.all(np.abs(ground.mean(axis=0)) < 3.3 * ground.std(axis=0) / np.sqrt(len(ground)))
    quadrants = np.bincount((ground >= 0) @ [1, 2], minlength=4)
    assert chisquare(quadrants).pvalue > 0.001


PARTY = replace(RULES, stack_probability=1.0, max_stacked_per_table=4, stack_levels=2)
TRAY = Placeable(
    "tray",
    (0.5, 0.4, 0.03),
    0.33,
    PlaceableSupport(0.02, (0.0, 0.0), 0.18, np.inf, rectangle((-0.23, -0.18), (0.23, 0.18))),
)


def on_table(placement, table):
    """Return a placement's position (3,) on its table, the table's own frame."""
    offset = placement.position_m - table.position_m
    return np.linalg.inv(yaw_rotation(table.yaw_rad)) @ offset / table.scale


def test_several_objects_on_one_table_lie_inside_its_polygon_and_apart():
    crowded = 0
    for scene in scenes(PARTY):
        for below, table in enumerate(scene.placements):
            items = [p for p in scene.placements if p.supported_by == below]
            assert len(items) <= 4
            crowded += len(items) > 1
            for k, item in enumerate(items):
                support = ASSETS[table.asset_id].support
                x, y, z = on_table(item, table)
                (left, bottom), (right, top) = support.edges_m[[0, 2], 0]
                r = item.radius_m / table.scale
                assert z == pytest.approx(support.height_m)
                assert left + r <= x + 1e-9 and x <= right - r + 1e-9
                assert bottom + r <= y + 1e-9 and y <= top - r + 1e-9
                for other in items[:k]:
                    distance = np.linalg.norm(item.position_m - other.position_m)
                    assert distance >= item.radius_m + other.radius_m
    assert crowded > 100


def test_second_level_stays_under_the_shelf_that_the_first_stands_under():
    assets = (SHELF, TRAY, BOX)
    by_id = {asset.asset_id: asset for asset in assets}
    towers = 0
    for scene in scenes(PARTY, 600, assets):
        placements = scene.placements
        for index, top in enumerate(placements):
            middle = placements[top.supported_by] if top.supported_by >= 0 else None
            if middle is None or middle.supported_by < 0:
                continue
            towers += 1
            base = placements[middle.supported_by]
            assert base.supported_by < 0, "no third level"
            assert middle.supported_by < top.supported_by < index
            height = top.position_m[2] + top.scale * by_id[top.asset_id].extent_m[2]
            support = by_id[base.asset_id].support
            ceiling = base.scale * (support.height_m + support.headroom_m)
            assert height <= ceiling + 1e-12
            side = max(by_id[top.asset_id].extent_m) * top.scale
            assert side >= 0.1 * base.scale * max(by_id[base.asset_id].extent_m) - 1e-12
    assert towers > 20


def test_scenes_keep_their_number_of_objects_whatever_is_stacked():
    plain = [len(scene.placements) for scene in scenes()]
    assert [len(scene.placements) for scene in scenes(PARTY)] == plain


def test_zero_stack_levels_put_every_object_on_the_ground():
    flat = scenes(replace(PARTY, stack_levels=0), 50)
    assert all(p.supported_by < 0 for scene in flat for p in scene.placements)


def test_objects_too_small_for_a_crowded_table_return_to_the_ground_at_their_size():
    slim = replace(
        TABLE,
        support=PlaceableSupport(0.7, (0, 0), 0.1, np.inf, rectangle((-0.1, -0.1), (0.1, 0.1))),
    )
    for scene in scenes(PARTY, 200, (slim,)):
        for placement in scene.placements:
            side = placement.scale * 1.6
            assert side >= (0.6 if placement.supported_by < 0 else 0.06) - 1e-12


SMALL_TOP = replace(
    TABLE,
    asset_id="small top",
    support=PlaceableSupport(0.7, (0, 0), 0.2, np.inf, rectangle((-0.2, -0.2), (0.2, 0.2))),
)
POLE = Placeable("pole", (0.1, 0.1, 1.0), 0.07, None)


def test_no_object_of_a_crowded_table_shrinks_below_a_tenth_of_the_table():
    # A pole may shrink much further than a box before its longest side is too short.
    assets = {asset.asset_id: asset for asset in (SMALL_TOP, BOX, POLE)}
    shared = 0
    for scene in scenes(PARTY, 600, tuple(assets.values())):
        for below, table in enumerate(scene.placements):
            items = [p for p in scene.placements if p.supported_by == below]
            shared += len({item.asset_id for item in items}) > 1
            least = 0.1 * table.scale * max(assets[table.asset_id].extent_m)
            for item in items:
                assert item.scale * max(assets[item.asset_id].extent_m) >= least - 1e-12
    assert shared > 20


def test_category_weighting_draws_rare_categories_as_often_as_common_ones():
    assets = [replace(BOX, asset_id=f"box{i}", category="box") for i in range(9)]
    assets.append(replace(TABLE, category="table"))
    groups = category_groups(assets)
    rules = replace(RULES, stack_levels=0)
    drawn = [
        p.asset_id
        for i in range(600)
        for p in compose_scene(assets, rules, rng_for(5, i), groups=groups).placements
    ]
    share = np.mean([asset_id == "table" for asset_id in drawn])
    assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(len(drawn))
    assert set(drawn) == {asset.asset_id for asset in assets}


def test_scene_of_a_thousand_objects_contains_them_all():
    rules = replace(PARTY, min_objects=1000, max_objects=1000)
    [scene] = scenes(rules, 1, (TABLE, SHELF, BOX, TRAY))
    assert len(scene.placements) == 1000


def test_gap_scale_is_uniform_over_its_range():
    drawn = np.sort([scene.gap_scale for scene in scenes(count=1500)])
    expected = np.linspace(0.1, 1.0, len(drawn))
    # Kolmogorov and Smirnov: 1.95 / sqrt(N) is exceeded once in a thousand times.
    assert np.abs(drawn - expected).max() / 0.9 < 1.95 / np.sqrt(len(drawn))
