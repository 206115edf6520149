"""Layouts seen from above, and histograms of all scenes."""

from itertools import islice

import numpy as np
from markupsafe import Markup, escape
from scipy.spatial import ConvexHull, QhullError
from shapely import from_wkb

from datagen.core.frames import Floats, transform_points
from datagen.core.meshes import transform_mesh
from datagen.report.blocks import Block, Figure, Grid, Key, Text
from datagen.report.charts import histogram
from datagen.report.scenes import placement_name
from datagen.shards import Row
from datagen.shards.scenes import asset_to_world
from datagen.shards.workspace import Workspace
from datagen.voxels.drawing import instance_color

NUM_PLANS = 8
_PX_PER_M = 100.0


def layout_plans(workspace: Workspace) -> list[Block]:
    """Return plans of the first scenes and histograms over all of them."""
    dataset = workspace.require("layouts", "report")
    plans = [_plan_figure(workspace, row) for row in islice(dataset, NUM_PLANS)]
    explanation = Text(
        "Seen from above: X to the right, Y up. Filled area: the convex hull of the object. "
        "Circle: the disk that the sampler keeps free of other objects. Dotted circle: the disk "
        "and half of the gap around it; dotted circles may touch but never overlap. Dashed "
        "outline: the surface on which other objects can stand. Thick outline: an object that "
        "stands on another. Square: the region."
    )
    return [explanation, Grid(plans, 270), *_histograms(workspace)]


def draw_plan(workspace: Workspace, layout: Row) -> Markup:
    """Return a plan of one scene from above as SVG, 100 units per metre."""
    placements = layout["placements"]
    reach = max(
        [layout["region_half_m"] or 0.0]
        + [float(np.abs(p["position_m"][:2]).max()) + p["radius_m"] for p in placements]
    )
    reach += (layout["gap_m"] or 0.0) / 2
    half = (reach + 0.05) * _PX_PER_M
    parts = []
    if layout["region_half_m"]:
        side, width = layout["region_half_m"] * _PX_PER_M, half / 120
        parts.append(
            f'<rect x="{-side:.1f}" y="{-side:.1f}" width="{2 * side:.1f}" '
            f'height="{2 * side:.1f}" fill="none" stroke="var(--line)" stroke-width="{width:.2f}"/>'
        )
    parts += [
        _draw_placement(workspace, layout, index, placement, half / 160)
        for index, placement in enumerate(placements)
    ]
    parts += [
        _draw_number(layout, index, placement, half / 160)
        for index, placement in enumerate(placements)
    ]
    view_box = f"{-half:.1f} {-half:.1f} {2 * half:.1f} {2 * half:.1f}"
    label = f"scene {layout['layout_id']} from above"
    return Markup(
        f'<svg viewBox="{view_box}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _plan_figure(workspace: Workspace, layout: Row) -> Figure:
    legend = []
    for index, placement in enumerate(layout["placements"]):
        on = f" (on {placement['supported_by']})" if placement["supported_by"] >= 0 else ""
        name = f"{index} {placement_name(workspace, placement)}{on}"
        legend.append(Key(f"rgb{instance_color(index)}", name))
    details = ""
    if layout["gap_m"] is not None:
        details = f"s = {layout['gap_scale']:.2f}, gap {layout['gap_m']:.2f} m"
        details += f", {layout['expansions']} expansions"
    plan = draw_plan(workspace, layout)
    return Figure([plan], f"scene {layout['layout_id']}", details, legend=legend)


def _draw_placement(
    workspace: Workspace, layout: Row, index: int, placement: Row, unit: float
) -> str:
    """Return the shapes of a placement as SVG; a thin line has the width ``unit``."""
    color = f"rgb{instance_color(index)}"
    x, y = placement["position_m"][0] * _PX_PER_M, -placement["position_m"][1] * _PX_PER_M
    stacked = placement["supported_by"] >= 0
    radius = placement["radius_m"] * _PX_PER_M
    shapes = [f"<title>{index} {escape(placement_name(workspace, placement))}</title>"]
    outline = f'stroke="{color}" stroke-width="{unit:.2f}"'
    shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="none" {outline}/>')
    if layout["gap_m"] is not None and not stacked:
        ring = radius + layout["gap_m"] / 2 * _PX_PER_M
        shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{ring:.1f}" fill="none" {outline} '
            f'stroke-dasharray="{unit:.2f} {3 * unit:.2f}" opacity="0.8"/>'
        )
    if placement["asset_id"] in workspace.assets:
        shapes += _draw_asset(workspace, placement, color, unit * (3 if stacked else 1))
    return f"<g>{''.join(shapes)}</g>"


def _draw_number(layout: Row, index: int, placement: Row, unit: float) -> str:
    x, y = placement["position_m"][0] * _PX_PER_M, -placement["position_m"][1] * _PX_PER_M
    if any(other["supported_by"] == index for other in layout["placements"]):
        y += 0.75 * placement["radius_m"] * _PX_PER_M  # the middle is taken by the objects on it
    return (
        f'<text x="{x:.1f}" y="{y + 4 * unit:.1f}" text-anchor="middle" '
        f'style="font-size: {13 * unit:.1f}px; font-weight: 600">{index}</text>'
    )


def _draw_asset(workspace: Workspace, placement: Row, color: str, line_width: float) -> list[str]:
    matrix = asset_to_world(placement)
    vertices, faces = transform_mesh(matrix, workspace.mesh(placement["asset_id"]))
    footprint = _hull(vertices[faces].reshape(-1, 3)[:, :2])
    shapes = [
        f'<polygon points="{_svg_points(footprint)}" fill="{color}" fill-opacity="0.4" '
        f'stroke="{color}" stroke-width="{line_width:.2f}"/>'
    ]
    support = workspace.assets[placement["asset_id"]]["support"]
    if support is not None:
        polygon = np.array(from_wkb(support["polygon_wkb"]).exterior.coords)[:, :2]
        edge = transform_points(matrix, np.column_stack([polygon, np.zeros(len(polygon))]))
        shapes.append(
            f'<polygon points="{_svg_points(edge)}" fill="none" '
            f'stroke="var(--ink)" stroke-width="{line_width:.2f}" '
            f'stroke-dasharray="{4 * line_width:.2f}"/>'
        )
    return shapes


def _hull(points: Floats) -> Floats:
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except QhullError:  # all points on one line, seen from above
        return points


def _svg_points(points: Floats) -> str:
    return " ".join(f"{x * _PX_PER_M:.1f},{-y * _PX_PER_M:.1f}" for x, y in points[:, :2])


def _histograms(workspace: Workspace) -> list[Block]:
    columns = ["placements", "gap_scale", "region_half_m", "expansions"]
    rows = list(workspace.require("layouts", "report").rows(columns))
    counts = [len(row["placements"]) for row in rows]
    stacked = sum(p["supported_by"] >= 0 for row in rows for p in row["placements"])
    charts = [histogram(counts, "number of objects in a scene", whole=True)]
    text = (
        f"{len(rows):,} scenes with {sum(counts):,} objects, {stacked:,} of them on another object."
    )
    sampled = [row for row in rows if row["region_half_m"] is not None]
    if sampled:
        shares = _ground_shares(sampled)
        charts += _sampled_charts(sampled, shares)
        text += " " + _describe_sides(shares)
    return [Text(text), Grid([Figure([chart]) for chart in charts], 300)]


def _sampled_charts(rows: list[Row], shares: Floats) -> list[Markup]:
    """Return histograms of what the sampler chose; given layouts have none."""
    yaws = [float(np.degrees(p["yaw_rad"])) for row in rows for p in row["placements"]]
    gap_scales = [row["gap_scale"] for row in rows]
    expansions = [row["expansions"] for row in rows]
    return [
        histogram(yaws, "yaw, degrees", bounds=(0, 360)),
        histogram(gap_scales, "s, the gap over the mean radius"),
        histogram(expansions, "times the region grew", whole=True),
        *(
            histogram(list(places), f"{axis} on the ground, 1 = the region's edge", bounds=(-1, 1))
            for axis, places in zip("xy", shares.T, strict=True)
        ),
    ]


def _ground_shares(rows: list[Row]) -> Floats:
    """Return x, y (N, 2) of the objects on the ground; 1 is the region's edge."""
    return np.array(
        [
            np.array(placement["position_m"][:2]) / row["region_half_m"]
            for row in rows
            for placement in row["placements"]
            if placement["supported_by"] < 0
        ]
    )


def _describe_sides(shares: Floats) -> str:
    """Return a sentence on how evenly the objects fill the region."""
    mean = shares.mean(axis=0)
    error = shares.std(axis=0) / np.sqrt(len(shares))
    right, upper = (shares >= 0).T
    quadrants = [right & upper, ~right & upper, ~right & ~upper, right & ~upper]
    percent = ", ".join(f"{100 * quadrant.mean():.1f}" for quadrant in quadrants)
    return (
        f"Mean position of the {len(shares):,} on the ground, where 1 is the region's edge: "
        f"x {mean[0]:+.4f} ± {error[0]:.4f}, y {mean[1]:+.4f} ± {error[1]:.4f}; "
        f"{percent} % of them are in the four quadrants, anticlockwise from the upper right."
    )
