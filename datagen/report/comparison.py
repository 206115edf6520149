"""``report.html`` of a comparison: the tables, what is hard, and the worst scenes to look at."""

import logging
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from datagen.evaluation.compare import in_one_space
from datagen.evaluation.metrics import BOX_IOU, CD, HEADLINE, HEADLINE_TAU
from datagen.evaluation.readers import PREDICTED
from datagen.evaluation.scene import WHOLE_SCENE
from datagen.evaluation.summary import collision_curve
from datagen.evaluation.truth import Truth
from datagen.report.markup import (
    REPORT,
    figure,
    grid,
    page,
    paragraph,
    section,
    side_by_side,
    swatch,
    table,
)
from datagen.report.overlay import PREDICTED_COLOR, TRUE_COLOR, overlays
from datagen.report.score_charts import ScoredObject, ScoredScene, collision_chart, score_charts
from datagen.shards import Dataset, Row
from datagen.stages.evaluate_files import EvaluateFiles, Pair

logger = logging.getLogger(__name__)

NUM_WORST_SCENES = 6
"""Scenes shown of each method."""

_SCORE = HEADLINE.name
_SCORE_WORDS = f"F-score at {HEADLINE_TAU:g}"


def write_comparison_report(stage: EvaluateFiles, dataset: Dataset) -> str:
    """Write ``report.html`` beside a comparison's summary and return where it lies.

    One file, no requests: images are in it. Geometry is read again from the files compared.
    """
    rows = list(dataset) if dataset.manifest["shards"] else []
    chapters: tuple[tuple[str, str, str], ...] = (
        ("scores", "Scores", _tables(dataset.folder.read_bytes("summary.md").decode())),
    )
    if rows:
        chapters += _scene_chapters(rows, stage)
    navigation = " ".join(f'<a href="#{a}">{escape(title)}</a>' for a, title, _ in chapters)
    body = f"<h1>datagen: comparison</h1><nav>{navigation}</nav>"
    body += "".join(section(*chapter) for chapter in chapters)
    dataset.folder.write_bytes(REPORT, page("datagen: comparison", body).encode())
    path = str(dataset.folder / REPORT)
    logger.info(f"evaluate: report → {path}")
    return path


def _scene_chapters(rows: Sequence[Row], stage: EvaluateFiles) -> tuple[tuple[str, str, str], ...]:
    """Return the chapters that need a scored scene."""
    truth = stage.truth()
    return (
        ("hard", f"{_SCORE_WORDS} against what is hard", _charts(rows, truth)),
        ("collisions", "Collisions by tolerance", _collisions(rows)),
        ("worst", "Worst scenes first", _worst(rows, stage, truth)),
    )


def _tables(summary: str) -> str:
    """Return the summary's paragraphs and tables, so that page and file never differ."""
    parts: list[str] = []
    lines = [line for line in summary.splitlines() if line and not line.startswith("# ")]
    rows: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("|---"):
            continue
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if rows:
            parts.append(table(rows[0], [[escape(cell) for cell in row] for row in rows[1:]], 1))
            rows = []
        parts.append(paragraph(line) if line else "")
    return "".join(parts)


def _charts(rows: Sequence[Row], truth: Truth) -> str:
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


def _collisions(rows: Sequence[Row]) -> str:
    methods = dict.fromkeys(row["method"] for row in rows)
    curves = {
        method: collision_curve(row for row in rows if _is_scene(row) and row["method"] == method)
        for method in methods
    }
    return collision_chart(curves) or paragraph("No collisions were computed.", "note")


def _worst(rows: Sequence[Row], stage: EvaluateFiles, truth: Truth) -> str:
    pairs = stage.pairs()
    text = (
        f"<p>{swatch(_css(TRUE_COLOR))}truth {swatch(_css(PREDICTED_COLOR))}prediction, mixed "
        "where both are seen. From the left: before alignment, from three quarters and from above; "
        f"after it, the same. By the scene's {_SCORE_WORDS}, lowest first.</p>"
    )
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if _is_scene(row) and row["method"] == method]
        own.sort(key=lambda row: row[_SCORE] if _known(row[_SCORE]) else -1.0)
        cards = [
            _card(row, pairs[row["pair_index"]], stage, truth) for row in own[:NUM_WORST_SCENES]
        ]
        text += f"<h3>{escape(method)}</h3>" + grid(cards, 560)
    return text


def _card(row: Row, pair: Pair, stage: EvaluateFiles, truth: Truth) -> str:
    file_format = PREDICTED[pair.format]
    prediction, true = file_format.read(pair.place), truth.read(pair.scene_id)
    sides = in_one_space(prediction, file_format, true, truth.format, stage.comparison)
    transform = np.array(row["transform"], np.float64).reshape(4, 4)
    caption = (
        f"<b>{escape(pair.scene_id)}</b> · F at {HEADLINE_TAU:g} {_number(row[_SCORE])} · "
        f"{CD.title} {_number(row[CD.name])} · {BOX_IOU.title} {_number(row[BOX_IOU.name])} · "
        f"{row['num_true']} objects, {row['num_missing']} missing, "
        f"{row['num_superfluous']} unmatched"
    )
    if row["num_colliding"]:
        caption += f", {row['num_colliding']} colliding"
    caption += "".join(f"<br>{escape(warning)}" for warning in row["warnings"] or ())
    return figure(side_by_side(overlays(*sides, transform)), caption)


def _is_scene(row: Row) -> bool:
    return bool(row["instance_index"] == WHOLE_SCENE)


def _known(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _number(value: Any) -> str:
    return f"{value:.3g}" if _known(value) else "–"


def _css(color: tuple[int, int, int]) -> str:
    return "rgb({}, {}, {})".format(*color)
