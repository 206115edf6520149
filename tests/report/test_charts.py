"""Charts show the numbers that they are given, each at its place."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from datagen.report.charts import direction_map, histogram, line_chart
from datagen.report.layout_plans import draw_plan, layout_plans
from datagen.shards.workspace import Workspace
from tests.report.pages import html_of


def bar_heights(svg: str) -> list[float]:
    return [float(rect.get("height")) for rect in ElementTree.fromstring(svg).iter("rect")]


def test_histogram_of_whole_numbers_has_one_bar_for_each_in_proportion():
    heights = bar_heights(histogram([2, 2, 2, 4], "objects", whole=True))
    assert len(heights) == 3
    np.testing.assert_allclose(np.array(heights) / heights[0], [1, 0, 1 / 3], atol=1e-3)


def test_histogram_counts_one_value_or_many():
    assert len(bar_heights(histogram([0.5], "s"))) == 18
    assert "n = 1000" in histogram(list(np.linspace(0, 1, 1000)), "s")


def test_histogram_with_bounds_has_empty_bins_for_values_that_do_not_occur():
    heights = bar_heights(histogram([90.0, 95.0, 350.0], "yaw", bounds=(0, 360), bins=4))
    assert [height > 0 for height in heights] == [False, True, False, True]
    assert heights[1] == pytest.approx(2 * heights[3], abs=0.11)


def test_line_chart_leaves_out_values_that_are_not_finite_and_falls_with_the_loss():
    x, y = np.arange(5.0), np.array([1.0, np.nan, 0.1, np.inf, 0.01])
    svg = line_chart([("loss", "stroke: red", x, y)], "step", log_y=True)
    [line] = ElementTree.fromstring(svg).iter("polyline")
    points = np.array([[float(v) for v in p.split(",")] for p in line.get("points").split()])
    assert points.shape == (3, 2)
    np.testing.assert_allclose(np.diff(points[:, 0]), points[1, 0] - points[0, 0], atol=0.11)
    # 1, 0.1, 0.01: equal steps down the page on a logarithmic axis.
    np.testing.assert_allclose(np.diff(points[:, 1]), points[1, 1] - points[0, 1], atol=0.11)
    assert points[1, 1] > points[0, 1]


def test_direction_map_puts_above_up_and_the_left_at_minus_ninety():
    directions = np.array([[0.0, 0, 1], [0, -1, 0], [1, 0, 0]])
    svg = direction_map(directions, ["kept", "kept", "hidden"], {"kept": "grey", "hidden": "red"})
    above, left, front = [
        (float(dot.get("cx")), float(dot.get("cy")))
        for dot in ElementTree.fromstring(svg).iter("circle")
    ]
    assert above[1] < left[1] == front[1]
    assert left[0] < front[0]


def test_plan_draws_each_placement_at_its_place_with_y_up(whole_workspace):
    workspace = Workspace.at(whole_workspace)
    layout = workspace.layout(0)
    root = ElementTree.fromstring(draw_plan(workspace, layout).replace("var(--ink)", "black"))
    circles = [
        (float(c.get("cx")), float(c.get("cy")), float(c.get("r")))
        for c in root.iter("circle")
        if c.get("stroke-dasharray") is None
    ]
    expected = [
        (100 * p["position_m"][0], -100 * p["position_m"][1], 100 * p["radius_m"])
        for p in layout["placements"]
    ]
    np.testing.assert_allclose(circles, expected, atol=0.06)
    assert len(list(root.iter("text"))) == len(layout["placements"])


def test_plan_outlines_stay_inside_their_disks_and_the_table_shows_its_support(whole_workspace):
    workspace = Workspace.at(whole_workspace)
    layout = workspace.layout(1)
    root = ElementTree.fromstring(draw_plan(workspace, layout))
    groups = list(root.iter("g"))
    assert len(groups) == 4
    for group in groups:
        circle = next(group.iter("circle"))
        center = np.array([float(circle.get("cx")), float(circle.get("cy"))])
        for polygon in group.iter("polygon"):
            points = np.array(re.findall(r"-?[\d.]+", polygon.get("points")), float).reshape(-1, 2)
            reach = np.linalg.norm(points - center, axis=1).max()
            assert reach <= float(circle.get("r")) + 0.2
    assert [len(list(group.iter("polygon"))) for group in groups] == [2, 1, 1, 1]


def test_layouts_chapter_shows_distributions_of_counts_yaws_gaps_and_places(whole_workspace):
    html = html_of(layout_plans(Workspace.at(whole_workspace)))
    charts = dict(re.findall(r'aria-label="([^"]*), n = (\d+)"', html))
    num_layouts = len(Workspace.at(whole_workspace).require("layouts", "test"))
    sides = [f"{axis} on the ground, 1 = the region&#39;s edge" for axis in "xy"]
    assert charts == {
        "number of objects in a scene": str(num_layouts),
        "yaw, degrees": str(4 * num_layouts),
        "s, the gap over the mean radius": str(num_layouts),
        "times the region grew": str(num_layouts),
        **dict.fromkeys(sides, str(3 * num_layouts)),
    }
    # The table in the middle, the lamp to the upper right, the ball to the lower left.
    assert "x +0.2292" in html and "y -0.1667" in html
    assert "66.7, 0.0, 33.3, 0.0 %" in html
