"""Charts of scores against mask area, occlusion and number of objects."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from datagen.core.frames import Floats
from datagen.evaluation.metrics import HEADLINE, HEADLINE_TAU, RATES
from datagen.evaluation.summary import Collisions
from datagen.evaluation.truth import Seen, seen_instances
from datagen.report.blocks import Block, Figure, Grid, Text
from datagen.report.charts import Dots, line_chart, scatter
from datagen.shards import Row
from datagen.shards.workspace import Workspace
from datagen.voxels.drawing import instance_color


@dataclass(frozen=True)
class ScoredObject:
    """The score in [0, 1] of one true object, and what the image shows of it."""

    method: str
    score: float
    seen: Seen | None
    """None without rendered views."""


@dataclass(frozen=True)
class ScoredScene:
    """The score in [0, 1] of one scene."""

    method: str
    score: float
    num_objects: int


def score_charts(
    objects: Sequence[ScoredObject], scenes: Sequence[ScoredScene], score: str
) -> list[Block]:
    """Return charts of a score against mask area, occlusion and number of objects.

    A note names the charts that are missing because images or scores of objects are missing.
    """
    charts = []
    known = [(thing, thing.seen) for thing in objects if thing.seen is not None]
    note = ""
    if known:
        area = [(t.method, 100 * seen.mask_share, t.score) for t, seen in known]
        hidden = [(t.method, 100 * (1 - seen.visible_share), t.score) for t, seen in known]
        charts.append(_chart(area, "objects: mask, % of the image, logarithmic", log_x=True))
        charts.append(_chart(hidden, "objects: hidden by others, %"))
    elif objects:
        note = (
            "Not drawn against mask area and occlusion: the truth has no rendered views "
            "(a workspace with renders/ has them)."
        )
    else:
        note = "Not drawn against mask area and occlusion: the protocol scores no single objects."
    by_number = [(scene.method, scene.num_objects, scene.score) for scene in scenes]
    charts.append(_chart(by_number, "scenes: number of objects"))
    text = f"Vertical axis: {score}, from 0 to 1. Dots: objects or scenes. Lines: means."
    shown: list[Block] = [Text(text), Grid([Figure([chart]) for chart in charts if chart], 360)]
    return [*shown, Text(note, "note")] if note else shown


def workspace_score_charts(
    workspace: Workspace, objects: Sequence[Sequence[Row]], scenes: Sequence[Sequence[Row]]
) -> list[Block]:
    """Return the charts of a workspace's own scores, in the frame of the view.

    Args:
        workspace: its renders show how much of an object is visible.
        objects: rows of ``scores``, in any groups.
        scenes: the same for whole scenes.
    """
    seen: dict[tuple[int, int], list[Seen] | None] = {}
    things = []
    for row in (row for rows in objects for row in rows):
        view = row["layout_id"], row["view_index"]
        if view not in seen:
            seen[view] = seen_instances(workspace, *view)
        of_view = seen[view]
        shown = None if of_view is None else of_view[row["placement_index"]]
        things.append(ScoredObject(row["method"], row[HEADLINE.name], shown))
    counts = Counter(
        (row["layout_id"], row["view_index"], row["method"]) for rows in objects for row in rows
    )
    wholes = [
        ScoredScene(
            row["method"],
            row[HEADLINE.name],
            counts[row["layout_id"], row["view_index"], row["method"]],
        )
        for rows in scenes
        for row in rows
    ]
    return score_charts(things, wholes, f"F-score at {HEADLINE_TAU:g}, not aligned")


def collision_charts(curves: Mapping[str, Sequence[Collisions]]) -> list[Block]:
    """Return a chart for each collision rate over the tolerance, with a line for each method.

    Without any curve, the result is a note.
    """
    known = {method: curve for method, curve in curves.items() if curve}
    if not known:
        return [Text("No collisions were computed.", "note")]
    charts = []
    for rate in RATES:
        series = [
            (
                method,
                f"stroke: {_css(index)}; stroke-width: 2",
                np.array([100 * at.tolerance for at in curve]),
                np.array([100 * at.rates[rate.name] for at in curve]),
            )
            for index, (method, curve) in enumerate(known.items())
        ]
        label = f"{rate.title}, %, by tolerance, % of the scene's extent"
        charts.append(Figure([line_chart(series, label, bounds=(0.0, 100.0))]))
    return [Grid(charts, 420)]


def _chart(
    points: Sequence[tuple[str, float, float]], label: str, *, log_x: bool = False
) -> Markup:
    """Return a scatter chart of (method, x, y) with a colour for each method."""
    methods = dict.fromkeys(method for method, _, _ in points)
    series: list[Dots] = []
    for index, method in enumerate(methods):
        own: Floats = np.array([point[1:] for point in points if point[0] == method], np.float64)
        series.append((method, _css(index), own[:, 0], own[:, 1]))
    return scatter(series, label, log_x=log_x)


def _css(index: int) -> str:
    return "rgb({}, {}, {})".format(*instance_color(index))
