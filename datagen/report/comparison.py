"""``report.html`` of a comparison: tables, what makes scenes hard, and the worst scenes."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from datagen.evaluation.compare import in_one_space
from datagen.evaluation.metrics import BOX_IOU, CD, HEADLINE, HEADLINE_TAU
from datagen.evaluation.readers import PREDICTED
from datagen.evaluation.scene import WHOLE_SCENE
from datagen.evaluation.summary import collision_curve
from datagen.evaluation.truth import Truth
from datagen.report.blocks import Block, Figure, Grid, Heading, Key, Text, TextTable
from datagen.report.overlay import PREDICTED_COLOR, TRUE_COLOR, overlays
from datagen.report.score_charts import ScoredObject, ScoredScene, collision_charts, score_charts
from datagen.report.template import REPORT, Chapter, render_page
from datagen.shards import Dataset, Row
from datagen.stages.evaluate_files import EvaluateFiles, Pair

logger = logging.getLogger(__name__)

NUM_WORST_SCENES = 6
"""Number of scenes shown for each method."""

_SCORE = HEADLINE.name
_SCORE_WORDS = f"F-score at {HEADLINE_TAU:g}"


def write_comparison_report(stage: EvaluateFiles, dataset: Dataset) -> str:
    """Write ``report.html`` beside a comparison's summary and return its path or URL.

    The page needs no other file. Geometry is read again from the files that were compared.
    """
    rows = list(dataset) if dataset.manifest["shards"] else []
    summary = dataset.folder.read_bytes("summary.md").decode()
    chapters = [Chapter("scores", "Scores", _tables(summary))]
    if rows:
        chapters += _scene_chapters(rows, stage)
    dataset.folder.write_bytes(REPORT, render_page("datagen: comparison", chapters).encode())
    path = str(dataset.folder / REPORT)
    logger.info(f"evaluate: report → {path}")
    return path


def _scene_chapters(rows: Sequence[Row], stage: EvaluateFiles) -> list[Chapter]:
    """Return the chapters that need at least one scored scene."""
    truth = stage.truth()
    return [
        Chapter("hard", f"{_SCORE_WORDS} against what makes scenes hard", _charts(rows, truth)),
        Chapter("collisions", "Collisions by tolerance", _collisions(rows)),
        Chapter("worst", "Worst scenes first", _worst(rows, stage, truth)),
    ]


def _tables(summary: str) -> list[Block]:
    """Return the paragraphs and tables of summary.md, so that page and file never differ."""
    blocks: list[Block] = []
    lines = [line for line in summary.splitlines() if line and not line.startswith("# ")]
    rows: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("|---"):
            continue
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if rows:
            blocks.append(TextTable(rows[0], rows[1:], 1))
            rows = []
        if line:
            blocks.append(Text(line))
    return blocks


def _charts(rows: Sequence[Row], truth: Truth) -> list[Block]:
    seen = {row["scene_id"]: truth.seen(row["scene_id"]) for row in rows if _is_scene(row)}
    objects = []
    for row in rows:
        if not _is_scene(row) and _known(row[_SCORE]):
            of_scene = seen[row["scene_id"]]
            shown = None if of_scene is None else of_scene[row["instance_index"]]
            objects.append(ScoredObject(row["method"], row[_SCORE], shown))
    scenes = [
        ScoredScene(row["method"], row[_SCORE], row["num_true"])
        for row in rows
        if _is_scene(row) and _known(row[_SCORE])
    ]
    return score_charts(objects, scenes, _SCORE_WORDS)


def _collisions(rows: Sequence[Row]) -> list[Block]:
    methods = dict.fromkeys(row["method"] for row in rows)
    curves = {
        method: collision_curve(row for row in rows if _is_scene(row) and row["method"] == method)
        for method in methods
    }
    return collision_charts(curves)


def _worst(rows: Sequence[Row], stage: EvaluateFiles, truth: Truth) -> list[Block]:
    pairs = stage.pairs()
    legend = [Key(_css(TRUE_COLOR), "truth"), Key(_css(PREDICTED_COLOR), "prediction;")]
    text = (
        "mixed where both are visible. From left to right: before alignment, from the front and "
        "from above; after alignment, from the front and from above. The scenes with the lowest "
        f"{_SCORE_WORDS} come first."
    )
    blocks: list[Block] = [Text(text, legend=legend)]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if _is_scene(row) and row["method"] == method]
        own.sort(key=lambda row: row[_SCORE] if _known(row[_SCORE]) else -1.0)
        cards = [
            _card(row, pairs[row["pair_index"]], stage, truth) for row in own[:NUM_WORST_SCENES]
        ]
        blocks += [Heading(method), Grid(cards, 560)]
    return blocks


def _card(row: Row, pair: Pair, stage: EvaluateFiles, truth: Truth) -> Figure:
    file_format = PREDICTED[pair.format]
    prediction, true = file_format.read(pair.place), truth.read(pair.scene_id)
    sides = in_one_space(prediction, file_format, true, truth.format, stage.comparison)
    transform = np.array(row["transform"], np.float64).reshape(4, 4)
    details = (
        f"F at {HEADLINE_TAU:g} {_number(row[_SCORE])} · "
        f"{CD.title} {_number(row[CD.name])} · {BOX_IOU.title} {_number(row[BOX_IOU.name])} · "
        f"{row['num_true']} objects, {row['num_missing']} missing, "
        f"{row['num_superfluous']} unmatched"
    )
    if row["num_colliding"]:
        details += f", {row['num_colliding']} colliding"
    images = overlays(*sides, transform)
    return Figure(images, pair.scene_id, details, row["warnings"] or ())


def _is_scene(row: Row) -> bool:
    return bool(row["instance_index"] == WHOLE_SCENE)


def _known(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _number(value: Any) -> str:
    return f"{value:.3g}" if _known(value) else "–"


def _css(color: tuple[int, int, int]) -> str:
    return "rgb({}, {}, {})".format(*color)
