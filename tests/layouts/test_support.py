"""Protects support surfaces: known answers on built shapes, and invariances."""

import numpy as np
import pytest
import shapely
import shapely.affinity
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from trimesh.creation import annulus, box, cone, cylinder, icosphere

from datagen.layouts.support import find_support


def board(size, center):
    return box(size, trimesh.transformations.translation_matrix(center))


def on_ground(shape):
    return shape.apply_translation([0, 0, -shape.bounds[0, 2]])


def table(width=1.4, depth=0.8, height=0.75, top=0.03):
    under = height - top
    legs = [
        board((0.05, 0.05, under), (x * (width / 2 - 0.05), y * (depth / 2 - 0.05), under / 2))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    return [board((width, depth, top), (0, 0, height - top / 2)), *legs]


def support_of(*parts):
    mesh = trimesh.util.concatenate(parts)
    return find_support(mesh.vertices, mesh.faces)


def test_box_has_its_whole_top_as_support():
    support = support_of(board((1.0, 0.6, 0.4), (0, 0, 0.2)))
    assert support.height_m == pytest.approx(0.4)
    assert support.polygon.area == pytest.approx(0.6, rel=1e-3)
    assert support.anchor_xy_m == pytest.approx((0, 0), abs=1e-6)
    assert support.clearance_m == pytest.approx(0.3, rel=1e-3)
    assert support.headroom_m == np.inf


def test_table_with_thin_legs_has_its_top_as_support():
    support = support_of(*table())
    assert support.height_m == pytest.approx(0.75)
    assert support.polygon.bounds == pytest.approx((-0.7, -0.4, 0.7, 0.4), abs=1e-3)


def test_round_table_has_clearance_of_its_radius():
    top = cylinder(0.5, 0.03, sections=64).apply_translation([0, 0, 0.735])
    support = support_of(top, board((0.1, 0.1, 0.72), (0, 0, 0.36)))
    assert support.clearance_m == pytest.approx(0.5 * np.cos(np.pi / 64), rel=2e-3)


def test_desk_with_a_shelf_above_has_its_worktop_as_support():
    desk = table(1.4, 0.7, 0.74)
    shelf = board((1.4, 0.22, 0.025), (0, 0.24, 1.05))
    ends = [board((0.02, 0.22, 0.3), (x, 0.24, 0.89)) for x in (-0.69, 0.69)]
    support = support_of(*desk, shelf, *ends)
    assert support.height_m == pytest.approx(0.74)
    assert support.headroom_m == pytest.approx(1.05 - 0.0125 - 0.74, abs=1e-6)


def test_tray_table_has_the_area_inside_its_rim_as_support():
    rims = [board((1.4, 0.02, 0.05), (0, y, 0.765)) for y in (-0.39, 0.39)]
    rims += [board((0.02, 0.8, 0.05), (x, 0, 0.765)) for x in (-0.69, 0.69)]
    support = support_of(*table(), *rims)
    assert support.height_m == pytest.approx(0.75)
    assert support.clearance_m == pytest.approx(0.38, abs=0.005)


def test_low_rim_does_not_lift_what_stands_inside_it():
    rims = [board((1.4, 0.05, 0.005), (0, y, 0.7525)) for y in (-0.375, 0.375)]
    support = support_of(*table(), *rims)
    assert support.height_m == pytest.approx(0.75, abs=1e-6)
    assert support.clearance_m == pytest.approx(0.35, abs=0.01)


@pytest.mark.parametrize("low_first", [True, False])
@pytest.mark.parametrize("share, height", [(0.95, 0.6), (0.7, 0.6), (0.5, 0.5)])
def test_of_two_open_steps_the_higher_carries_unless_it_is_much_smaller(low_first, share, height):
    low = board((1.0, 1.0, 0.5), (-0.5, 0, 0.25))
    high = board((share, 1.0, 0.6), (share / 2, 0, 0.3))
    support = support_of(*((low, high) if low_first else (high, low)))
    assert support.height_m == pytest.approx(height)


def test_slatted_top_is_one_support_whose_anchor_is_on_a_slat():
    slats = [board((1.2, 0.09, 0.03), (0, y, 0.435)) for y in (-0.2, -0.1, 0, 0.1, 0.2)]
    slats = [slat.apply_translation([0, 0.05, 0]) for slat in slats[:4]]
    support = support_of(*slats, board((1.0, 0.3, 0.42), (0, 0, 0.21)))
    assert support.polygon.bounds == pytest.approx((-0.6, -0.195, 0.6, 0.195), abs=5e-3)
    x, y = support.anchor_xy_m
    assert x == pytest.approx(0, abs=1e-3)
    assert 0.005 < abs(y) < 0.02, "the middle is a crack from -5 to 5 mm"
    assert support.clearance_m == pytest.approx(0.195 - abs(y), abs=5e-3)


def test_object_on_the_table_is_left_out_of_the_polygon():
    support = support_of(*table(), board((0.2, 0.2, 0.2), (0.5, 0.0, 0.85)))
    assert support.height_m == pytest.approx(0.75)
    assert not support.polygon.intersects(shapely.box(0.41, -0.09, 0.59, 0.09))
    assert support.anchor_xy_m[0] < 0.0
    # The block is not nearer to the anchor than the clearance.
    assert 0.4 - support.anchor_xy_m[0] >= support.clearance_m - 1e-3


def test_l_shaped_top_has_its_anchor_on_the_top():
    long = board((2.0, 0.5, 0.04), (0, 0, 0.73))
    short = board((0.5, 1.5, 0.04), (-0.75, 1.0, 0.73))
    support = support_of(long, short, board((0.1, 0.1, 0.71), (-0.75, 0.5, 0.355)))
    assert support.height_m == pytest.approx(0.75)
    anchor = shapely.Point(support.anchor_xy_m)
    assert support.polygon.contains(anchor)
    assert anchor.distance(support.polygon.exterior) == pytest.approx(support.clearance_m)
    assert support.clearance_m > 0.2


def test_top_of_a_single_sheet_is_a_support_although_the_slice_misses_it():
    legs = [board((0.04, 0.04, 0.7), (x, y, 0.35)) for x in (-0.4, 0.4) for y in (-0.4, 0.4)]
    corners = np.array([[-0.5, -0.5, 0.7], [0.5, -0.5, 0.7], [0.5, 0.5, 0.7], [-0.5, 0.5, 0.7]])
    sheet = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]])
    support = support_of(sheet, *legs)
    assert support.height_m == pytest.approx(0.7)
    assert support.polygon.area == pytest.approx(1.0, rel=1e-2)


def test_faces_with_inverted_winding_give_the_same_support():
    parts = trimesh.util.concatenate(table())
    inverted = find_support(parts.vertices, parts.faces[:, ::-1])
    assert inverted.height_m == pytest.approx(0.75)


def chair():
    seat = table(0.45, 0.45, 0.45)
    return trimesh.util.concatenate([*seat, board((0.45, 0.03, 0.45), (0, 0.21, 0.675))])


def mug():
    wall = annulus(0.035, 0.043, 0.1).apply_translation([0, 0, 0.05])
    return trimesh.util.concatenate([wall, cylinder(0.043, 0.008).apply_translation([0, 0, 0.004])])


def bottle():
    body = cylinder(0.04, 0.2).apply_translation([0, 0, 0.1])
    return trimesh.util.concatenate([body, cylinder(0.014, 0.1).apply_translation([0, 0, 0.25])])


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(icosphere(3, 0.3), id="sphere"),
        pytest.param(cone(0.3, 0.6), id="cone"),
        pytest.param(board((1.5, 0.04, 1.0), (0, 0, 0)), id="fence"),
        pytest.param(chair(), id="chair"),
        pytest.param(mug(), id="mug"),
        pytest.param(bottle(), id="bottle"),
    ],
)
def test_shape_that_nobody_puts_a_cup_on_has_no_support(shape):
    shape = on_ground(shape.copy())
    assert find_support(shape.vertices, shape.faces) is None


def test_mesh_without_faces_has_no_support():
    assert find_support(np.zeros((0, 3)), np.zeros((0, 3), int)) is None


@settings(max_examples=15, deadline=None)
@given(
    scale=st.floats(0.2, 5.0),
    yaw=st.floats(0, 2 * np.pi),
    shift=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
)
def test_support_moves_with_the_table(scale, yaw, shift):
    mesh = trimesh.util.concatenate(table())
    moved = mesh.copy()
    moved.apply_transform(trimesh.transformations.rotation_matrix(yaw, [0, 0, 1]))
    moved.apply_scale(scale)
    moved.apply_translation([*shift, 0])
    support = find_support(moved.vertices, moved.faces)
    assert support.height_m == pytest.approx(0.75 * scale)
    assert support.anchor_xy_m == pytest.approx(shift, abs=1e-3 * scale)
    assert support.clearance_m == pytest.approx(0.4 * scale, rel=5e-3)


@settings(max_examples=15, deadline=None)
@given(
    width=st.floats(0.6, 2.0),
    depth=st.floats(0.5, 1.0),
    height=st.floats(0.4, 0.9),
    top=st.floats(0.012, 0.06),
)
def test_clearance_disk_lies_on_the_table_whatever_its_size(width, depth, height, top):
    support = support_of(*table(width, depth, height, top))
    disk = shapely.Point(support.anchor_xy_m).buffer(support.clearance_m)
    tolerance = 1e-6
    assert (
        shapely.box(-width / 2, -depth / 2, width / 2, depth / 2).buffer(tolerance).contains(disk)
    )
    assert support.clearance_m == pytest.approx(min(width, depth) / 2, rel=0.01)


def desk_with_shelf():
    shelf = board((1.4, 0.22, 0.025), (0, 0.24, 1.05))
    ends = [board((0.02, 0.22, 0.3), (x, 0.24, 0.89)) for x in (-0.69, 0.69)]
    return [*table(1.4, 0.7, 0.74), shelf, *ends]


def table_with_fine_ball():
    """Return a table with a ball of 20,480 small triangles on it, away from the origin."""
    return [*table(), icosphere(5, 0.1).apply_translation([-0.4, -0.2, 0.85])]


def bench_of_slats():
    slats = [board((1.2, 0.09, 0.03), (0, y, 0.435)) for y in (-0.15, -0.05, 0.05, 0.15)]
    return [*slats, board((1.0, 0.3, 0.42), (0, 0, 0.21))]


def box_with_overhanging_sheet():
    """Return a solid box; its top face continues beyond it as a sheet with nothing below."""
    corners = np.array([[0.5, -0.5, 0.4], [0.8, -0.5, 0.4], [0.8, 0.5, 0.4], [0.5, 0.5, 0.4]])
    sheet = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]])
    return [board((1.0, 1.0, 0.4), (0, 0, 0.2)), sheet]


@pytest.mark.parametrize("scale", [0.15, 8.0])
@pytest.mark.parametrize(
    "build", [desk_with_shelf, table_with_fine_ball, bench_of_slats, box_with_overhanging_sheet]
)
def test_support_of_a_larger_shape_is_larger_in_proportion(build, scale):
    mesh = trimesh.util.concatenate(build())
    one = find_support(mesh.vertices, mesh.faces)
    other = find_support(mesh.vertices * scale, mesh.faces)
    assert other.height_m == pytest.approx(one.height_m * scale)
    assert other.clearance_m == pytest.approx(one.clearance_m * scale, rel=0.02)
    assert other.headroom_m == pytest.approx(one.headroom_m * scale)
    assert other.polygon.area == pytest.approx(one.polygon.area * scale**2, rel=0.01)


@pytest.mark.parametrize("shift", [(0, 0), (3, -2)])
def test_finely_cut_thing_takes_its_own_outline_from_the_table_and_no_more(shift):
    mesh = trimesh.util.concatenate(table_with_fine_ball()).apply_translation([*shift, 0])
    polygon = find_support(mesh.vertices, mesh.faces).polygon
    whole = shapely.box(-0.7, -0.4, 0.7, 0.4)
    ball = shapely.Point(-0.4, -0.2).buffer(0.1)
    free = shapely.affinity.translate(whole.difference(ball), *shift)
    assert polygon.symmetric_difference(free).area < 0.01
    assert not polygon.intersects(shapely.affinity.translate(ball, *shift).buffer(-0.005))


def test_top_reaches_no_farther_than_what_is_solid_below_it():
    support = support_of(*box_with_overhanging_sheet())
    assert support.polygon.bounds == pytest.approx((-0.5, -0.5, 0.5, 0.5), abs=0.02)


def test_rectangle_keeps_its_corners():
    for size in ((1.0, 0.6), (0.5, 0.5)):
        support = support_of(board((*size, 0.4), (0, 0, 0.2)))
        assert support.polygon.area == pytest.approx(size[0] * size[1], rel=1e-6)
        assert support.polygon.convex_hull.area == pytest.approx(support.polygon.area, rel=1e-6)


@pytest.mark.parametrize(("share", "usable"), [(0.3, True), (1.0, False)])
def test_table_under_a_roof_is_used_only_where_most_of_it_is_open(share, usable):
    roof = board((1.4 * share, 0.8, 0.02), (0.7 * (1 - share), 0, 1.6))
    posts = [board((0.03, 0.03, 0.9), (0.66, y, 1.15)) for y in (-0.36, 0.36)]
    support = support_of(*table(), roof, *posts)
    if usable:
        assert support.height_m == pytest.approx(0.75)
        assert support.headroom_m == pytest.approx(1.59 - 0.75)
    else:
        assert support is None or support.height_m == pytest.approx(1.61)
