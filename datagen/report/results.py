"""Results: the training curve, sampled scenes beside the truth, and the scores."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datagen.core.frames import Floats
from datagen.errors import DatasetError
from datagen.evaluation.metrics import (
    ALIGNED,
    CD,
    CD_SQ_SUM,
    F_SCORE,
    HEADLINE,
    VIEW_TAUS,
    Metric,
    Reads,
    metrics_at,
)
from datagen.evaluation.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from datagen.evaluation.scene import WHOLE_SCENE
from datagen.evaluation.summary import collision_curve
from datagen.evaluation.tables import SCORES
from datagen.report.blocks import Block, Cell, Chart, Figure, Grid, Heading, Link, Text, TextTable
from datagen.report.charts import line_chart
from datagen.report.images import image
from datagen.report.scenes import input_image
from datagen.report.score_charts import collision_charts, workspace_score_charts
from datagen.report.template import REPORT
from datagen.shards import Row
from datagen.shards.workspace import Workspace
from datagen.voxels import unpack_instances
from datagen.voxels.drawing import draw_voxels

TRAINING_LOG = Path("model", "log.jsonl")
NUM_PREDICTIONS = 16
METHODS = ("model", "untrained", "constant")
"""The order of the rows; other methods follow by name."""

_POINTS = 600
_ORDER: tuple[Reads, ...] = ("voxels", "boxes", "thresholds", "distances")
"""The order of the columns, by what their metrics read."""


@dataclass(frozen=True)
class _Shown:
    """A column of a table of scores."""

    name: str
    title: str
    better: Literal["higher", "lower"] | None
    """None for a floor: no floor is the best."""


def _view_columns() -> list[_Shown]:
    """Return the columns in the frame of the view: scores, then floors."""
    metrics = metrics_at(VIEW_TAUS, *_ORDER)
    floors = [_Shown(m.floor, f"floor of {m.title}", None) for m in metrics if "view" in m.floor_of]
    return [_Shown(m.name, m.title, m.better) for m in metrics if m.in_scores] + floors


def _aligned_columns() -> list[_Shown]:
    """Return the columns after alignment: each score, and its floor."""
    found = []
    for metric in metrics_at(VIEW_TAUS, *_ORDER):
        if metric.in_scores and "report" in metric.aligned_in:
            found.append(_Shown(ALIGNED + metric.name, metric.title, metric.better))
            floor = _aligned_floor(metric)
            found += [_Shown(ALIGNED + floor, "its floor", None)] if floor else []
    return found


def _aligned_floor(metric: Metric) -> str | None:
    if metric.name == PROTOCOLS[DEFAULT_PROTOCOL].chamfer:
        return CD.floor
    inner = [F_SCORE.at(tau).name for tau in VIEW_TAUS[1:-1]]  # the outer thresholds are enough
    return metric.floor if "protocol" in metric.floor_of and metric.name not in inner else None


def training_curve(workspace: Workspace) -> list[Block]:
    """Return a chart of the loss over the steps, its running mean, and the validation loss."""
    records = _read_log(workspace.root.path / TRAINING_LOG)
    steps, losses = _column(records, "loss")
    if not len(steps):
        return [Text("The log has no losses yet.", "note")]
    series = [
        (
            "loss",
            "stroke: var(--soft); stroke-width: 0.7; opacity: 0.6",
            *_thinned(steps, losses, _POINTS),
        ),
        (
            "running mean",
            "stroke: var(--accent); stroke-width: 2",
            *_thinned(steps, losses, max(12, min(60, len(steps) // 8))),
        ),
    ]
    val_steps, val_losses = _column(records, "val_loss")
    if len(val_steps):
        style = "stroke: var(--second); stroke-width: 2"
        series.append(("validation loss", style, val_steps, val_losses))
    finite = losses[np.isfinite(losses) & (losses > 0)]
    wide = len(finite) > 0 and finite.max() > 10 * finite.min()
    text = f"{int(steps[-1]):,} steps; the last logged loss is {losses[-1]:.4g}."
    chart = line_chart(
        series, "step" + (", loss on a logarithmic axis" if wide else ""), log_y=wide
    )
    return [Text(text), Chart(chart)]


def predictions(workspace: Workspace) -> list[Block]:
    """Return input image, sampled voxels and true voxels side by side for each prediction."""
    dataset = workspace.require("predictions", "report")
    text = Text(
        f"Sampled scenes: {len(dataset)}. From left to right: the input, the sampled voxels, the "
        "true voxels. An instance has the same colour in all of them and in the plans."
    )
    cards = [_prediction_card(workspace, row) for row in islice(dataset, NUM_PREDICTIONS)]
    return [text, Grid(cards, 560)]


def scores(workspace: Workspace) -> list[Block]:
    """Return mean scores by split and method, before and after alignment, and charts of them."""
    dataset = workspace.require(SCORES.folder, "report", f"datagen {SCORES.verb}")
    shown = {column.name for column in [*_view_columns(), *_aligned_columns()]}
    if not shown <= set(dataset.schema.names):
        text = "An older datagen wrote these scores. Run datagen evaluate --overwrite."
        return [Text(text, "note")]
    objects: dict[tuple[str, str], list[Row]] = defaultdict(list)
    scenes: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in dataset:
        group = scenes if row["placement_index"] == WHOLE_SCENE else objects
        group[row["split"], row["method"]].append(row)
    return [
        Heading("Objects"),
        _score_table(objects, "objects", _view_columns()),
        Heading("Scenes"),
        _score_table(scenes, "scenes", _view_columns()),
        Text(
            "Numbers are means; objects, scenes and missing are counts. Bold: the best of a split. "
            "Nothing is aligned: prediction and truth are compared in the frame of the view. Scene "
            "distances are measured in [−1, 1]³, with equally many points on each object. For "
            "object distances, both sides are first moved and scaled by the true object's box to "
            "[−1, 1]. A missing object has IoU and F-score 0 and no CD, so CD is a mean over the "
            "objects that were found. The floor is the score of the truth against itself. The "
            "constant predictor gives every instance the thresholded mean occupancy of the "
            "training instances. Untrained is the network before its first step. F @ 0.01 of an "
            "object is below 1 even for the truth against itself, since sampled points are about "
            "that far apart; a voxel of 64³ is 0.031 wide in [−1, 1]³.",
            "soft",
        ),
        *_aligned(objects, scenes),
        Heading("What makes scenes hard"),
        *workspace_score_charts(workspace, [*objects.values()], [*scenes.values()]),
        *_link_to_comparison(workspace),
    ]


def _aligned(
    objects: dict[tuple[str, str], list[Row]], scenes: dict[tuple[str, str], list[Row]]
) -> list[Block]:
    """Return the tables after alignment, and the collision rates."""
    headline = ALIGNED + HEADLINE.name
    known = any(row[headline] is not None for rows in scenes.values() for row in rows)
    tables: list[Block] = [Text("Not computed: datagen evaluate ran with --align none.", "note")]
    if known:
        tables = [
            Text(
                "Here the whole scene is first aligned to the truth, as papers do: a prediction "
                "that is rotated, moved or scaled as a whole loses nothing. Each scene has one "
                "alignment, which its objects share. An alignment fits parts that are close "
                "already, so the CD of a poor prediction can be worse after it than before."
            ),
            _score_table(objects, "objects", _aligned_columns()),
            _score_table(scenes, "scenes", _aligned_columns()),
        ]
    curves = {
        f"{split} {method}": collision_curve(scenes[split, method])
        for split, method in sorted(scenes, key=_table_order)
        if method == METHODS[0]
    }
    return [
        Heading("Aligned to the truth"),
        *tables,
        Heading("Collisions of the sampled objects"),
        *collision_charts(curves),
    ]


def _link_to_comparison(workspace: Workspace) -> list[Block]:
    page = f"comparison/{REPORT}"
    return [Link("Comparison of methods' files", page)] if workspace.root.exists(page) else []


def _read_log(path: Path) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise DatasetError(
                f"{path}, line {number}: not JSON ({error}); expected a JSON object in each line. "
                "Remove the line, or train again with --overwrite."
            ) from error
    return records


def _column(records: list[dict[str, Any]], key: str) -> tuple[Floats, Floats]:
    pairs = [(r["step"], r[key]) for r in records if r.get(key) is not None]
    values = np.array(pairs, np.float64).reshape(-1, 2)
    return values[:, 0], values[:, 1]


def _thinned(x: Floats, y: Floats, count: int) -> tuple[Floats, Floats]:
    """Return means (x, y) over at most ``count`` equal parts of the steps."""
    parts = np.array_split(np.arange(len(x)), min(count, len(x)))
    return (
        np.array([x[part].mean() for part in parts]),
        np.array([y[part].mean() for part in parts]),
    )


def _prediction_card(workspace: Workspace, row: Row) -> Figure:
    layout_id, view_index = row["layout_id"], row["view_index"]
    path = workspace.root.path / "predictions" / str(row["path"]) / "occupancy.npz"
    if not path.is_file():
        raise DatasetError(
            f"{path}: no such file, although the dataset names it for scene "
            f"{layout_id}, view {view_index}; expected the sampled voxels. "
            "Run infer again with --overwrite."
        )
    with np.load(path) as arrays:
        sampled = arrays["instances"].astype(bool)
    images = []
    shown = input_image(workspace, layout_id, view_index)
    if shown is not None:
        images.append(image(shown, "input"))
    images.append(image(draw_voxels(sampled), "sampled voxels", max_px=480, exact=True))
    latent = workspace.latent(layout_id, view_index)
    if latent is not None:
        true = draw_voxels(unpack_instances(latent["occupancy"].tobytes()))
        images.append(image(true, "true voxels", max_px=480, exact=True))
    empty = [str(index) for index, grid in enumerate(sampled) if not grid.any()]
    details = f"{row['split']} · {row['num_instances']} instances · {row['seconds']:.1f} s"
    if empty:
        details += f" · sampled empty: {', '.join(empty)}"
    return Figure(images, f"scene {layout_id}, view {view_index}", details)


def _score_table(
    groups: dict[tuple[str, str], list[Row]], noun: str, columns: Sequence[_Shown]
) -> Block:
    if not groups:
        return Text(f"No {noun} were scored.", "note")
    means = {
        key: {c.name: _mean([row[c.name] for row in rows]) for c in columns}
        for key, rows in groups.items()
    }
    best = _best(means, columns)
    rows = []
    for key in sorted(groups, key=_table_order):
        missing = sum(_is_nan(row[CD_SQ_SUM.name]) for row in groups[key])
        cells = [
            Cell([_number(value)], "best") if key in best[column] else _number(value)
            for column, value in means[key].items()
        ]
        rows.append([*key, f"{len(groups[key])}", f"{missing}", *cells])
    return TextTable(["split", "method", noun, "missing", *(c.title for c in columns)], rows, 2)


def _best(
    means: dict[tuple[str, str], dict[str, float]], columns: Sequence[_Shown]
) -> dict[str, set[tuple[str, str]]]:
    """Return for each column the (split, method) with the best mean of its split."""
    best: dict[str, set[tuple[str, str]]] = {column.name: set() for column in columns}
    for split in {key[0] for key in means}:
        for column in columns:
            if column.better is None:
                continue
            values = {k: v[column.name] for k, v in means.items() if k[0] == split}
            values = {k: v for k, v in values.items() if not math.isnan(v)}
            if len(set(values.values())) > 1:  # if all are equal, none is the best
                choose = min if column.better == "lower" else max
                goal = choose(values.values())
                best[column.name] |= {k for k, v in values.items() if v == goal}
    return best


def _table_order(key: tuple[str, str]) -> tuple[str, int, str]:
    split, method = key
    return split, METHODS.index(method) if method in METHODS else len(METHODS), method


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def _is_nan(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.2g}"
