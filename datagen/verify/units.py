"""Checks of scenes: rows that are missing from a dataset, or that do not fit together."""

from collections.abc import Callable, Iterator
from itertools import groupby

from datagen.shards import Dataset, Row
from datagen.verify.references import References

UnitProblem = tuple[int, str]
"""A unit of a dataset, and what is wrong with it."""


def _renders(dataset: Dataset, references: References) -> Iterator[UnitProblem]:
    """Yield layouts without rows."""
    layouts = references.num_placements
    if layouts is not None:
        for unit in sorted(layouts.keys() - set(dataset.units()) - _failed(dataset)):
            yield unit, f"layout {unit} has no row and is not among the failed"


def _latents(dataset: Dataset, references: References) -> Iterator[UnitProblem]:
    """Yield kept views without latents."""
    kept, encoded = references.kept_views, references.encoded_views
    if dataset.fields.get("views_per_scene") is not None or kept is None or encoded is None:
        return
    failed = _failed(dataset)
    for unit, view in sorted(kept - encoded.keys()):
        if unit not in failed:
            yield unit, f"layout {unit}, view {view} was kept but has no row"


PAIR_COLUMNS = ["pair_index", "instance_index", "partner_index", "num_true", "num_missing"]


def _comparison(dataset: Dataset, references: References) -> Iterator[UnitProblem]:
    """Yield pairs of scenes whose rows do not match the counts in the row of the scene."""
    for unit, rows in groupby(dataset.rows(PAIR_COLUMNS), lambda row: int(row["pair_index"])):
        problem = _pair_problem(list(rows))
        if problem is not None:
            yield unit, f"pair {unit} {problem}"


def _pair_problem(rows: list[Row]) -> str | None:
    scene, *instances = rows
    if scene["instance_index"] != -1:
        return "has no row of its scene before its instances"
    if [row["instance_index"] for row in instances] != list(range(scene["num_true"])):
        return f"has {len(instances)} instances, num_true of its scene is {scene['num_true']}"
    missing = sum(row["partner_index"] is None for row in instances)
    if missing != scene["num_missing"]:
        return f"lacks {missing} partners, num_missing of its scene is {scene['num_missing']}"
    return None


def _failed(dataset: Dataset) -> set[int]:
    return {failure["unit"] for failure in dataset.manifest["failed"]}


UNIT_CHECKS: dict[str, Callable[[Dataset, References], Iterator[UnitProblem]]] = {
    "renders": _renders,
    "latents": _latents,
    "comparison": _comparison,
}
"""The check of a dataset's units; by the folder of its table."""
