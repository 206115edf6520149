"""Charts of scores show every point, and means of many."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from datagen.evaluation.summary import Collisions
from datagen.evaluation.truth import Seen, WorkspaceTruth, open_truth, seen_instances
from datagen.report.charts import scatter
from datagen.report.score_charts import ScoredObject, ScoredScene, collision_charts, score_charts
from datagen.shards.workspace import Workspace
from tests.evaluation.readers.files import box, write
from tests.report.pages import html_of

SCENES = [ScoredScene("ours", 0.5, 3), ScoredScene("ours", 0.7, 3), ScoredScene("ours", 0.2, 8)]


def dots(svg):
    circles = ElementTree.fromstring(svg).iter("circle")
    return [(float(dot.get("cx")), float(dot.get("cy"))) for dot in circles]


def line(svg):
    [found] = ElementTree.fromstring(svg).iter("polyline")
    return np.array([p.split(",") for p in found.get("points").split()], float)


def test_scatter_draws_each_point_and_the_means_where_x_repeats():
    x, y = np.array([3.0, 3, 8]), np.array([0.5, 0.7, 0.2])
    svg = scatter([("ours", "red", x, y)], "objects")
    assert len(dots(svg)) == 3 and "n = 3" in svg
    means = line(svg)
    assert len(means) == 2
    assert means[0] == pytest.approx(np.mean(dots(svg)[:2], axis=0), abs=0.1)
    assert means[1, 1] > means[0, 1]  # a lower score is lower on the page


def test_logarithmic_scatter_puts_powers_of_ten_equally_far_apart_and_leaves_zero_out():
    x, y = np.array([0.0, 0.1, 1, 10]), np.full(4, 0.5)
    places = np.array(dots(scatter([("ours", "red", x, y)], "mask", log_x=True)))
    assert len(places) == 3
    np.testing.assert_allclose(np.diff(places[:, 0])[0], np.diff(places[:, 0])[1], atol=0.11)


def test_many_points_have_a_line_of_eight_means():
    x = np.linspace(0, 1, 100)
    assert len(line(scatter([("ours", "red", x, x)], "x"))) == 8


def test_scatter_of_no_points_is_empty():
    assert scatter([("ours", "red", np.zeros(0), np.zeros(0))], "x") == ""


def test_scores_are_drawn_against_mask_hiding_and_number_of_objects():
    objects = [ScoredObject("ours", 0.4, Seen(0.02, 0.5)), ScoredObject("ours", 0.9, Seen(0.2, 1))]
    html = html_of(score_charts(objects, SCENES, "F"))
    labels = re.findall(r'aria-label="([^"]*)"', html)
    assert [re.split(r"[,:]", label)[:2] for label in labels] == [
        ["objects", " mask"],
        ["objects", " hidden by others"],
        ["scenes", " number of objects"],
    ]
    assert "Not drawn" not in html


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ([ScoredObject("ours", 0.4, None)], "the truth has no rendered views"),
        ([], "the protocol scores no single objects"),
    ],
)
def test_note_names_the_charts_that_are_missing(objects, words):
    html = html_of(score_charts(objects, SCENES, "F"))
    assert html.count("<svg") == 1 and words in html


def test_visible_share_of_each_instance_is_read_from_the_pixels_of_the_view(whole_workspace):
    workspace = Workspace.at(whole_workspace)
    table, *_, carried = seen_instances(workspace, 1, 5)
    assert table == Seen(900 / 96**2, 0.9)
    assert carried == Seen(150 / 96**2, 150 / 160)
    assert seen_instances(workspace, 1, 99) is None
    truth = WorkspaceTruth(whole_workspace)
    assert truth.seen("1_5") == seen_instances(workspace, 1, 5)


def test_truth_in_files_has_no_visible_shares(tmp_path):
    write(tmp_path / "a.glb", box(0.1))
    assert open_truth(tmp_path, "auto").seen("a") is None


def test_each_collision_rate_has_a_chart_over_the_tolerance():
    curve = [
        Collisions(0.0, {"col_o": 0.5, "col_s": 1.0}),
        Collisions(0.01, {"col_o": 0.25, "col_s": 0.5}),
        Collisions(0.05, {"col_o": 0.0, "col_s": 0.0}),
    ]
    html = html_of(collision_charts({"ours": curve, "none": []}))
    assert html.count("<svg") == 2 and html.count("<polyline") == 2
    assert "No collisions were computed." in html_of(collision_charts({"none": []}))
