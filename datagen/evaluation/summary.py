"""Methods side by side: means, medians, bootstrap intervals; as Markdown, LaTeX and CSV.

A mean is taken over scenes, or over all objects of all scenes. Its 95 % interval comes from 10,000
bootstrap resamples *of scenes* (Efron, 1979: percentiles), since objects of one scene are not
independent.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datagen.core.frames import Floats
from datagen.core.seeding import rng_for
from datagen.evaluation.collision import TOLERANCES
from datagen.evaluation.scene import WHOLE_SCENE

RESAMPLES = 10_000
_AT_ONCE = 500


@dataclass(frozen=True)
class Column:
    """One column of the papers' tables."""

    title: str
    score: str
    """Column of the rows."""
    of_scene: bool
    percent: bool
    higher_is_better: bool


COLUMNS = (
    Column("CD-S", "cd", True, False, False),
    Column("F-S", "f_score_0_1", True, True, True),
    Column("IoU-B", "box_iou", True, False, True),
    Column("CD-O", "cd", False, False, False),
    Column("F-O", "f_score_0_1", False, True, True),
    Column("IoU-O", "box_iou", False, False, True),
    Column("Col-O", "col_o", True, True, False),
    Column("Col-S", "col_s", True, True, False),
)
"""F-scores at 0.1 and collision rates are in per cent, as they are printed."""


@dataclass(frozen=True)
class Estimate:
    """A mean, and how sure it is."""

    mean: float
    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Collisions:
    """Both rates at one tolerance, in [0, 1]."""

    tolerance: float
    """A share of the scene's extent."""
    col_o: float
    col_s: float


@dataclass(frozen=True)
class MethodSummary:
    """All that one method's line says."""

    method: str
    num_scenes: int
    num_failed: int
    """Scenes that could not be scored."""
    num_absent: int
    """True scenes that nothing was predicted for."""
    num_missing: int
    num_superfluous: int
    estimates: dict[str, Estimate | None]
    """By title; None where there is no such score."""
    floors: dict[str, float | None]
    """By title, the mean of the truth against other samples of it; None where there is none."""
    collisions: list[Collisions]
    """Both rates as a function of the tolerance; empty where none was sought."""


def summarise_methods(
    rows: Sequence[Mapping[str, Any]],
    methods: Sequence[str],
    failed: Mapping[str, int],
    absent: Mapping[str, int],
    *,
    seed: int = 0,
) -> list[MethodSummary]:
    """Return each method's summary, in the order given.

    Args:
        rows: of ``comparison``.
        methods: their names.
        failed: scenes of each that could not be scored.
        absent: true scenes that each has no prediction for.
        seed: of the bootstrap.
    """
    found = []
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        scenes = [row for row in own if row["instance_index"] == WHOLE_SCENE]
        estimates = {
            column.title: _estimate(*_sums(own, column), rng_for(seed, "bootstrap", method))
            for column in COLUMNS
        }
        found.append(
            MethodSummary(
                method,
                len(scenes),
                failed.get(method, 0),
                absent.get(method, 0),
                sum(row["num_missing"] for row in scenes),
                sum(row["num_superfluous"] for row in scenes),
                estimates,
                {column.title: _floor(own, column) for column in COLUMNS},
                collision_curve(scenes),
            )
        )
    return found


def collision_curve(scenes: Iterable[Mapping[str, Any]]) -> list[Collisions]:
    """Return Col-O and Col-S at each of ``TOLERANCES``, pooled over rows of scenes.

    Scenes without a predicted object, or whose collisions were not sought, do not count.
    """
    found = [row for row in scenes if row["num_colliding_at"] is not None and row["num_predicted"]]
    if not found:
        return []
    colliding = np.array([row["num_colliding_at"] for row in found], float)
    num_objects = sum(row["num_predicted"] for row in found)
    rates_o, rates_s = colliding.sum(axis=0) / num_objects, (colliding > 0).mean(axis=0)
    return [
        Collisions(tolerance, float(col_o), float(col_s))
        for tolerance, col_o, col_s in zip(TOLERANCES, rates_o, rates_s, strict=True)
    ]


def _floor(rows: Iterable[Mapping[str, Any]], column: Column) -> float | None:
    """Return the mean floor of a score that has one; overlaps of a copy are 1."""
    values = [
        row.get(f"{column.score}_floor")
        for row in rows
        if (row["instance_index"] == WHOLE_SCENE) == column.of_scene
    ]
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else None


def _sums(rows: Iterable[Mapping[str, Any]], column: Column) -> tuple[list[list[float]], Floats]:
    """Return each scene's values, and (scenes, 2) their sums and numbers."""
    values: dict[str, list[float]] = {}
    pooled: dict[str, tuple[float, float]] = {}
    for row in rows:
        if (row["instance_index"] == WHOLE_SCENE) != column.of_scene:
            continue
        scene, value = row["scene_id"], _value(row, column)
        kept = values.setdefault(scene, [])
        if value is None or np.isnan(value):
            continue
        kept.append(value)
        if column.score == "col_o":
            pooled[scene] = (row["num_colliding"], row["num_predicted"])
    sums = [pooled.get(scene, (sum(kept), len(kept))) for scene, kept in values.items()]
    return list(values.values()), np.array(sums, float).reshape(-1, 2)


def _value(row: Mapping[str, Any], column: Column) -> float | None:
    if column.score not in ("col_o", "col_s"):
        return row.get(column.score)
    if row["num_colliding"] is None or not row["num_predicted"]:
        return None
    if column.score == "col_s":
        return float(row["num_colliding"] > 0)
    return float(row["num_colliding"] / row["num_predicted"])


def _estimate(values: list[list[float]], sums: Floats, rng: np.random.Generator) -> Estimate | None:
    flat = [value for kept in values for value in kept]
    if not flat:
        return None
    num_scenes = len(sums)
    means: list[float] = []
    for _ in range(RESAMPLES // _AT_ONCE):
        drawn = rng.multinomial(num_scenes, np.full(num_scenes, 1 / num_scenes), size=_AT_ONCE)
        totals = drawn @ sums
        means += list(totals[totals[:, 1] > 0, 0] / totals[totals[:, 1] > 0, 1])
    low, high = np.percentile(means, [2.5, 97.5])
    mean = sums[:, 0].sum() / sums[:, 1].sum()
    return Estimate(float(mean), float(np.median(flat)), float(low), float(high), len(flat))


def read_published(path: Path) -> list[dict[str, str]]:
    """Return rows of a table of published scores: method, test_set, the columns' titles, source."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def markdown(
    summaries: Sequence[MethodSummary], published: Sequence[Mapping[str, str]], settings: str
) -> str:
    """Return the table with means, medians and intervals, published rows beneath."""
    titles = [_title(column) for column in COLUMNS]
    lines = [
        "# Comparison",
        "",
        settings,
        "",
        "Mean (median) [95 % interval, bootstrap over scenes]. F-scores and collision rates in per "
        "cent. A missing object has F-score and IoU 0 and no CD; scenes not scored are in no mean. "
        "Floor: the same of the truth against other samples of itself (overlaps: 1).",
        "",
        "| method | scenes | not scored | absent | missing | superfluous | "
        + " | ".join(titles)
        + " |",
        "|---" * (6 + len(titles)) + "|",
    ]
    for entry in summaries:
        counts = [entry.num_scenes, entry.num_failed, entry.num_absent]
        counts += [entry.num_missing, entry.num_superfluous]
        cells = [entry.method, *map(str, counts)]
        cells += [_words(entry.estimates[column.title], column) for column in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
        floors = [_floor_words(entry, column, "–") for column in COLUMNS]
        lines.append("| – its floor | | | | | | " + " | ".join(floors) + " |")
    lines += _collision_lines(summaries)
    lines += ["", "Published, on their authors' test scenes, so not comparable with the above:", ""]
    lines += ["| method | test set | " + " | ".join(titles) + " | source |"]
    lines += ["|---" * (3 + len(titles)) + "|"]
    for row in published:
        scores = [row[column.title] or "–" for column in COLUMNS]
        cells = [f"{row['method']} (published)", row["test_set"], *scores, row["source"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _collision_lines(summaries: Sequence[MethodSummary]) -> list[str]:
    """Return a table of both rates, a column a tolerance."""
    known = [entry for entry in summaries if entry.collisions]
    if not known:
        return []
    tolerances = [f"{100 * at.tolerance:g} %" for at in known[0].collisions]
    lines = [
        "",
        "Col-O / Col-S, per cent, by the depth (a share of the scene's extent) that is let pass:",
        "",
        "| method | " + " | ".join(tolerances) + " |",
        "|---" * (1 + len(tolerances)) + "|",
    ]
    for entry in known:
        rates = [f"{100 * at.col_o:.1f} / {100 * at.col_s:.1f}" for at in entry.collisions]
        lines.append(f"| {entry.method} | " + " | ".join(rates) + " |")
    return lines


def latex(
    summaries: Sequence[MethodSummary], published: Sequence[Mapping[str, str]], settings: str
) -> str:
    """Return a ``tabular`` (booktabs) of the means, published rows beneath a rule."""
    arrows = [r"$\uparrow$" if column.higher_is_better else r"$\downarrow$" for column in COLUMNS]
    heads = [f"{column.title} {arrow}" for column, arrow in zip(COLUMNS, arrows, strict=True)]
    lines = [
        f"% {settings}",
        r"\begin{tabular}{l" + "r" * len(COLUMNS) + "}",
        r"\toprule",
        "Method & " + " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    for entry in summaries:
        means = [_mean(entry.estimates[column.title], column) for column in COLUMNS]
        lines.append(f"{_escaped(entry.method)} & " + " & ".join(means) + r" \\")
        floors = [_floor_words(entry, column, "--") for column in COLUMNS]
        lines.append(r"\quad its floor & " + " & ".join(floors) + r" \\")
    lines.append(r"\midrule")
    for row in published:
        name = _escaped(f"{row['method']} (published, {row['test_set']})")
        scores = [row[column.title] or "--" for column in COLUMNS]
        lines.append(f"{name} & " + " & ".join(scores) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def as_csv(summaries: Sequence[MethodSummary], published: Sequence[Mapping[str, str]]) -> str:
    """Return a line a method and score, unrounded; ``published`` says whose number it is."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["method", "published", "test_set", "score", "unit", "mean", "median", "low", "high", "n"]
    )
    for entry in summaries:
        for column in COLUMNS:
            found = entry.estimates[column.title]
            factor, unit = (100.0, "%") if column.percent else (1.0, "")
            if found is not None:
                numbers = [found.mean, found.median, found.low, found.high]
                writer.writerow(
                    [entry.method, "no", "", column.title, unit]
                    + [repr(factor * number) for number in numbers]
                    + [found.count]
                )
            if (floor := entry.floors[column.title]) is not None:
                cells = [entry.method, "no", "", f"{column.title} floor", unit]
                writer.writerow([*cells, repr(factor * floor), "", "", "", ""])
        for at in entry.collisions:
            for title, rate in (("Col-O", at.col_o), ("Col-S", at.col_s)):
                score = f"{title} at {100 * at.tolerance:g} %"
                writer.writerow(
                    [entry.method, "no", "", score, "%", repr(100 * rate), "", "", "", ""]
                )
    for row in published:
        for column in COLUMNS:
            if row[column.title]:
                unit = "%" if column.percent else ""
                cells = [row["method"], "yes", row["test_set"], column.title, unit]
                writer.writerow([*cells, row[column.title], "", "", "", ""])
    return text.getvalue()


def _title(column: Column) -> str:
    return f"{column.title} {'↑' if column.higher_is_better else '↓'}"


def _mean(estimate: Estimate | None, column: Column) -> str:
    return "--" if estimate is None else _number(estimate.mean, column)


def _words(estimate: Estimate | None, column: Column) -> str:
    if estimate is None:
        return "–"
    mean, median, low, high = (
        _number(value, column)
        for value in (estimate.mean, estimate.median, estimate.low, estimate.high)
    )
    return f"{mean} ({median}) [{low}, {high}]"


def _number(value: float, column: Column) -> str:
    return f"{100 * value:.2f}" if column.percent else f"{value:.4f}"


def _floor_words(entry: MethodSummary, column: Column, none: str) -> str:
    floor = entry.floors[column.title]
    if floor is None:
        return none
    return f"{100 * floor:.2f}" if column.percent else f"{floor:.2g}"


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in text)
