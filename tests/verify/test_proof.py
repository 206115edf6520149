"""Layouts that are right, and layouts that break one promise each."""

import numpy as np
import pytest
import shapely
import trimesh

from datagen.verify.proof import LayoutProof, Solid


def solid(mesh, height=None, polygon=None):
    return Solid(
        np.asarray(mesh.vertices, float), np.asarray(mesh.faces, np.int32), height, polygon
    )


def standing_box(size):
    return trimesh.creation.box(size).apply_translation([0, 0, size[2] / 2])


def desk():
    """A worktop 1 m by 1 m at 0.7 m with a shelf above a half of it."""
    shelf = standing_box((1, 0.5, 0.02)).apply_translation([0, 0.25, 1.0])
    return trimesh.util.concatenate([standing_box((1, 1, 0.7)), shelf])


SOLIDS = {
    "cube": solid(standing_box((0.4, 0.4, 0.4))),
    "desk": solid(desk(), 0.7, shapely.box(-0.5, -0.5, 0.5, 0.5)),
    "plate": solid(standing_box((1, 1, 0.02)), 0.02, shapely.box(-0.5, -0.5, 0.5, 0.5)),
}


def placement(name, position, *, scale=1.0, yaw=0.0, on=-1):
    return {
        "asset_id": name,
        "scale": scale,
        "yaw_rad": yaw,
        "position_m": list(position),
        "radius_m": scale * SOLIDS[name].radius_m,
        "supported_by": on,
    }


def faults(*placements, gap_m=0.1, exhaustive=False):
    layout = {"layout_id": 7, "gap_m": gap_m, "placements": list(placements)}
    found = LayoutProof(SOLIDS.__getitem__).check(layout, exhaustive=exhaustive)
    return [(fault.rule, fault.placement, fault.other) for fault in found]


DESK = placement("desk", (0, 0, 0))


def test_cube_on_a_desk_beside_a_cube_is_right_both_ways():
    scene = [DESK, placement("cube", (2, 0, 0)), placement("cube", (0, -0.25, 0.7), on=0)]
    for exhaustive in (False, True):
        assert faults(*scene, exhaustive=exhaustive) == []


def test_cube_under_the_shelf_that_is_too_low_penetrates_it():
    # Its top, at 1.1, goes through the shelf at 1.0 to 1.02.
    assert faults(DESK, placement("cube", (0, 0.2, 0.7), on=0)) == [("penetration", 0, 1)]


def test_cube_over_the_edge_leaves_the_support_polygon():
    assert faults(DESK, placement("cube", (0, -0.31, 0.7), on=0)) == [("footprint", 1, 0)]


def test_footprint_is_the_outline_rotated_and_scaled_not_the_disk():
    edge = -0.5 + 0.2 + 1e-4
    assert faults(DESK, placement("cube", (0, edge, 0.7), on=0)) == []
    rotated = placement("cube", (0, edge, 0.7), yaw=np.pi / 4, on=0)
    assert faults(DESK, rotated) == [("footprint", 1, 0)]
    small = placement("desk", (3, 0, 0), scale=0.5, yaw=1.0)
    assert faults(small, placement("cube", (3, 0, 0.35), on=0, scale=0.5)) == [
        ("penetration", 0, 1)
    ]


@pytest.mark.parametrize("lift_m, expected", [
    (1.9e-3, []),
    (2.1e-3, [("gap", 1, 0)]),
    (-0.9e-3, []),
    (-1.2e-3, [("penetration", 0, 1)]),
    (-3e-3, [("gap", 1, 0), ("penetration", 0, 1)]),
])  # fmt: skip
def test_gap_is_two_millimetres_and_sinking_in_is_one(lift_m, expected):
    assert faults(DESK, placement("cube", (0, -0.25, 0.7 + lift_m), on=0)) == expected


def test_hole_below_a_stacked_object_is_found():
    ring = trimesh.creation.annulus(0.6, 0.9, 0.5).apply_translation([0, 0, 0.25])
    SOLIDS["ring"] = solid(ring, 0.5, shapely.Point(0, 0).buffer(0.9))
    rules = faults(placement("ring", (0, 0, 0)), placement("cube", (0, 0, 0.5), on=0))
    assert rules == [("gap", 1, 0)]


def test_object_with_one_leg_over_a_crack_stands_on_the_other():
    slats = [standing_box((0.2, 1, 0.1)).apply_translation([x, 0, 0]) for x in (-0.12, 0.12)]
    legs = [standing_box((0.01, 0.01, z)) for z in (0.2, 0.199)]  # the first is the longer one
    legs[0].apply_translation([0, 0, 0])
    legs[1].apply_translation([0.1, 0, 0.001])
    SOLIDS["slats"] = solid(
        trimesh.util.concatenate(slats), 0.1, shapely.box(-0.22, -0.5, 0.22, 0.5)
    )
    SOLIDS["stool"] = solid(trimesh.util.concatenate(legs))
    SOLIDS["stilt"] = solid(legs[0])
    slats_there = placement("slats", (0, 0, 0))
    assert faults(slats_there, placement("stool", (0, 0, 0.1), on=0)) == []
    assert faults(slats_there, placement("stilt", (0, 0, 0.1), on=0)) == [("gap", 1, 0)]


def test_object_without_a_support_carries_nothing():
    pair = [placement("cube", (0, 0, 0)), placement("cube", (0, 0, 0.4), scale=0.5, on=0)]
    assert faults(*pair) == [("footprint", 1, 0)]


def test_disks_nearer_than_the_gap_break_the_spacing_rule():
    reach = 2 * SOLIDS["cube"].radius_m + 0.1
    near = [placement("cube", (0, 0, 0)), placement("cube", (reach - 1e-4, 0, 0))]
    far = [placement("cube", (0, 0, 0)), placement("cube", (0, reach + 1e-4, 0))]
    assert faults(*near) == [("spacing", 0, 1)]
    assert faults(*far) == []
    assert faults(*near, gap_m=None) == []


def test_mesh_that_leaves_its_disk_is_found():
    wide = {**placement("cube", (0, 0, 0)), "radius_m": 0.2}
    assert faults(wide) == [("radius", 0, 0)]


def test_given_layout_has_its_meshes_compared_and_no_disks():
    tucked = [
        placement("plate", (0, 0, 0)),
        placement("cube", (0.7 + 1e-3, 0, 0)),
        placement("cube", (0.2, 0, 0)),
    ]
    assert faults(*tucked, gap_m=None) == [("penetration", 0, 2)]
