"""Methods side by side: means, medians, bootstrap intervals; as Markdown, LaTeX and CSV.

A mean is taken over scenes, or over all objects of all scenes. Its 95 % interval comes from 10,000
bootstrap resamples *of scenes* (Efron, 1979: percentiles), since objects of one scene are not
independent.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datagen.core.frames import Floats
from datagen.core.seeding import rng_for
from datagen.evaluation.collision import TOLERANCES
from datagen.evaluation.metrics import HEADLINE_TAU, RATES, Metric, Rate, metrics_at
from datagen.evaluation.scene import WHOLE_SCENE

RESAMPLES = 10_000
_AT_ONCE = 500


@dataclass(frozen=True)
class PrintedScore:
    """One column of the papers' tables."""

    title: str
    of_scene: bool
    """Whether it is a score of whole scenes, or of objects."""
    better: Literal["higher", "lower"]
    percent: bool
    floor: str | None
    """Column of its floor; None where there is none."""
    part: Callable[[Mapping[str, Any]], tuple[float, float] | None]
    """From a row to what is added up, over what; None where the row has no such score."""

    @property
    def arrow(self) -> str:
        """An arrow in the direction of better values."""
        return "↑" if self.better == "higher" else "↓"


def printed_scores() -> list[PrintedScore]:
    """Return the columns: metrics of scenes, metrics of objects, collision rates."""
    metrics = metrics_at((HEADLINE_TAU,))
    return [
        *(_printed(m, m.scene_title, of_scene=True) for m in metrics if m.scene_title),
        *(_printed(m, m.object_title, of_scene=False) for m in metrics if m.object_title),
        *(
            PrintedScore(rate.title, True, "lower", True, None, partial(_share, rate))
            for rate in RATES
        ),
    ]


def _printed(metric: Metric, title: str, *, of_scene: bool) -> PrintedScore:
    floor = metric.floor if "protocol" in metric.floor_of else None
    part = partial(_single, metric.name)
    return PrintedScore(title, of_scene, metric.better, metric.percent, floor, part)


def _single(name: str, row: Mapping[str, Any]) -> tuple[float, float] | None:
    value = row.get(name)
    return None if value is None or np.isnan(value) else (value, 1)


def _share(rate: Rate, row: Mapping[str, Any]) -> tuple[float, float] | None:
    if row["num_colliding"] is None or not row["num_predicted"]:
        return None
    return rate.part(row["num_colliding"], row["num_predicted"])


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % interval, and the median."""

    mean: float
    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Collisions:
    """The collision rates at one tolerance."""

    tolerance: float
    """A share of the scene's extent."""
    rates: dict[str, float]
    """In [0, 1], by name of RATES: ``col_o``, ``col_s``."""


@dataclass(frozen=True)
class MethodSummary:
    """One method's line in the tables."""

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
    """Both rates as a function of the tolerance; empty where none was computed."""


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
            for column in printed_scores()
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
                {column.title: _floor(own, column) for column in printed_scores()},
                collision_curve(scenes),
            )
        )
    return found


def collision_curve(scenes: Iterable[Mapping[str, Any]]) -> list[Collisions]:
    """Return the collision rates at each of ``TOLERANCES``, pooled over rows of scenes.

    Scenes without a predicted object, or whose collisions were not computed, do not count.
    """
    found = [row for row in scenes if row["num_colliding_at"] is not None and row["num_predicted"]]
    if not found:
        return []
    return [
        Collisions(tolerance, {rate.name: _pooled(rate, found, index) for rate in RATES})
        for index, tolerance in enumerate(TOLERANCES)
    ]


def _pooled(rate: Rate, scenes: Iterable[Mapping[str, Any]], index: int) -> float:
    parts = [rate.part(row["num_colliding_at"][index], row["num_predicted"]) for row in scenes]
    sums = np.array(parts, float).sum(axis=0)
    return float(sums[0] / sums[1])


def _floor(rows: Iterable[Mapping[str, Any]], column: PrintedScore) -> float | None:
    """Return the mean floor of a score that has one; overlaps of a copy are 1."""
    if column.floor is None:
        return None
    values = [row.get(column.floor) for row in rows if _is_of(column, row)]
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else None


def _sums(
    rows: Iterable[Mapping[str, Any]], column: PrintedScore
) -> tuple[list[list[float]], Floats]:
    """Return each scene's values, and (scenes, 2) the sums that its mean is made of."""
    parts: dict[str, list[tuple[float, float]]] = {}
    for row in (row for row in rows if _is_of(column, row)):
        of_scene = parts.setdefault(row["scene_id"], [])
        part = column.part(row)
        of_scene += [] if part is None else [part]
    values = [[float(part / whole) for part, whole in found] for found in parts.values()]
    sums = [[sum(side) for side in zip(*found, strict=True)] or [0, 0] for found in parts.values()]
    return values, np.array(sums, float).reshape(-1, 2)


def _is_of(column: PrintedScore, row: Mapping[str, Any]) -> bool:
    return bool((row["instance_index"] == WHOLE_SCENE) == column.of_scene)


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
    columns = printed_scores()
    titles = [f"{column.title} {column.arrow}" for column in columns]
    lines = [
        "# Comparison",
        "",
        settings,
        "",
        "Mean (median) [95 % interval, bootstrap over scenes]. F-scores and collision rates in per "
        "cent. A missing object has F-score and IoU 0 and no CD; scenes not scored are in no mean. "
        "Floor: the same of the truth against other samples of itself (overlaps: 1).",
        "",
        "| method | scenes | not scored | absent | missing | unmatched | "
        + " | ".join(titles)
        + " |",
        "|---" * (6 + len(titles)) + "|",
    ]
    for entry in summaries:
        counts = [entry.num_scenes, entry.num_failed, entry.num_absent]
        counts += [entry.num_missing, entry.num_superfluous]
        cells = [entry.method, *map(str, counts)]
        cells += [_words(entry.estimates[column.title], column) for column in columns]
        lines.append("| " + " | ".join(cells) + " |")
        floors = [_floor_words(entry, column, "–") for column in columns]
        lines.append("| – its floor | | | | | | " + " | ".join(floors) + " |")
    lines += _collision_lines(summaries)
    lines += ["", "Published, on their authors' test scenes, so not comparable with the above:", ""]
    lines += ["| method | test set | " + " | ".join(titles) + " | source |"]
    lines += ["|---" * (3 + len(titles)) + "|"]
    for row in published:
        scores = [row.get(column.title) or "–" for column in columns]
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
        f"{' / '.join(rate.title for rate in RATES)}, per cent, by tolerance (a depth, as a "
        "share of the scene's extent):",
        "",
        "| method | " + " | ".join(tolerances) + " |",
        "|---" * (1 + len(tolerances)) + "|",
    ]
    for entry in known:
        rates = [
            " / ".join(f"{100 * at.rates[rate.name]:.1f}" for rate in RATES)
            for at in entry.collisions
        ]
        lines.append(f"| {entry.method} | " + " | ".join(rates) + " |")
    return lines


def latex(
    summaries: Sequence[MethodSummary], published: Sequence[Mapping[str, str]], settings: str
) -> str:
    """Return a ``tabular`` (booktabs) of the means, published rows beneath a rule."""
    columns = printed_scores()
    arrows = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}
    heads = [f"{column.title} {arrows[column.better]}" for column in columns]
    lines = [
        f"% {settings}",
        r"\begin{tabular}{l" + "r" * len(columns) + "}",
        r"\toprule",
        "Method & " + " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    for entry in summaries:
        means = [_mean(entry.estimates[column.title], column) for column in columns]
        lines.append(f"{_escaped(entry.method)} & " + " & ".join(means) + r" \\")
        floors = [_floor_words(entry, column, "--") for column in columns]
        lines.append(r"\quad its floor & " + " & ".join(floors) + r" \\")
    lines.append(r"\midrule")
    for row in published:
        name = _escaped(f"{row['method']} (published, {row['test_set']})")
        scores = [row.get(column.title) or "--" for column in columns]
        lines.append(f"{name} & " + " & ".join(scores) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def as_csv(summaries: Sequence[MethodSummary], published: Sequence[Mapping[str, str]]) -> str:
    """Return a line a method and score, unrounded; ``published`` says whose number it is."""
    text, columns = io.StringIO(), printed_scores()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["method", "published", "test_set", "score", "unit", "mean", "median", "low", "high", "n"]
    )
    for entry in summaries:
        for column in columns:
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
            for rate in RATES:
                score = f"{rate.title} at {100 * at.tolerance:g} %"
                value = repr(100 * at.rates[rate.name])
                writer.writerow([entry.method, "no", "", score, "%", value, "", "", "", ""])
    for row in published:
        for column in columns:
            if number := row.get(column.title):
                unit = "%" if column.percent else ""
                cells = [row["method"], "yes", row["test_set"], column.title, unit]
                writer.writerow([*cells, number, "", "", "", ""])
    return text.getvalue()


def _mean(estimate: Estimate | None, column: PrintedScore) -> str:
    return "--" if estimate is None else _number(estimate.mean, column)


def _words(estimate: Estimate | None, column: PrintedScore) -> str:
    if estimate is None:
        return "–"
    mean, median, low, high = (
        _number(value, column)
        for value in (estimate.mean, estimate.median, estimate.low, estimate.high)
    )
    return f"{mean} ({median}) [{low}, {high}]"


def _number(value: float, column: PrintedScore) -> str:
    return f"{100 * value:.2f}" if column.percent else f"{value:.4f}"


def _floor_words(entry: MethodSummary, column: PrintedScore, none: str) -> str:
    floor = entry.floors[column.title]
    if floor is None:
        return none
    return f"{100 * floor:.2f}" if column.percent else f"{floor:.2g}"


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in text)
