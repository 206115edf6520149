"""Composed scenes: as many objects as drawn, supporters first, stacked objects that fit."""

from dataclasses import replace

import numpy as np
import pytest

from datagen.core.seeding import rng_for
from datagen.layouts.compose import CompositionRules, compose_scene
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
    expected = 200
    assert np.all(np.abs(counts[2:] - expected) < 5 * np.sqrt(expected))


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
            turned = np.array(
                [
                    np.cos(-table.yaw_rad) * offset[0] - np.sin(-table.yaw_rad) * offset[1],
                    np.sin(-table.yaw_rad) * offset[0] + np.cos(-table.yaw_rad) * offset[1],
                ]
            )
            np.testing.assert_allclose(turned / table.scale, support.anchor_xy_m, atol=1e-12)
            assert offset[2] == pytest.approx(table.scale * support.height_m)
            assert placement.scale * item.radius_m <= table.scale * support.clearance_m
            assert placement.scale * item.extent_m[2] <= table.scale * support.headroom_m
    assert stacked > 100


def test_no_supporter_carries_two_and_nothing_stands_on_a_stacked_object():
    for scene in scenes():
        supporters = [p.supported_by for p in scene.placements if p.supported_by >= 0]
        assert len(set(supporters)) == len(supporters)
        assert all(scene.placements[index].supported_by < 0 for index in supporters)


def test_stack_probability_zero_and_one():
    assert all(
        p.supported_by < 0
        for scene in scenes(replace(RULES, stack_probability=0.0))
        for p in scene.placements
    )
    pair = scenes(replace(RULES, stack_probability=1.0, min_objects=2, max_objects=2), 50, (TABLE,))
    assert all(scene.placements[1].supported_by == 0 for scene in pair)


def test_metric_scale_keeps_sizes_of_objects_on_the_ground():
    for scene in scenes(replace(RULES, longest_side_range_m=None), count=50):
        assert all(p.scale == 1.0 for p in scene.placements if p.supported_by < 0)


def test_yaw_is_uniform_and_positions_have_no_side():
    placements = [p for scene in scenes(count=1500) for p in scene.placements]
    yaws = np.array([p.yaw_rad for p in placements])
    assert abs(np.exp(1j * yaws).mean()) < 5 / np.sqrt(len(yaws))
    ground = np.array([p.position_m[:2] for p in placements if p.supported_by < 0])
    assert np.all(np.abs(ground.mean(axis=0)) < 5 * ground.std(axis=0) / np.sqrt(len(ground)))
