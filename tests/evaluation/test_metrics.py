"""A metric is declared once: every column, table and page has it, and nothing else spells it."""

import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datagen.evaluation.metrics import ALIGNED, METRICS, TAUS, VIEW_TAUS, metrics_at
from datagen.evaluation.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from datagen.evaluation.tables import COMPARISON, SCORES

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "datagen"

SPELLED_IN = {
    "evaluation/metrics.py",  # the declarations
    "evaluation/formulas.py",  # formulas of the Chamfer distance have names of their own,
    "evaluation/protocols.py",  # and protocols name one
    "evaluation/__init__.py",  # exports functions of these names
}

USE = """
from pathlib import Path

import trimesh

import datagen
from datagen.cli import main
from datagen.evaluation.scene import SceneGeometry, score_scene
from datagen.evaluation.tables import SCORES
from datagen.exports.card import write_card
from datagen.report.results import scores
from datagen.report.template import Chapter, render_page
from datagen.shards import Folder, Identity, Output
from datagen.shards.workspace import Workspace
from datagen.stages.evaluate import EvaluateScenes, mean_scores

assert Path(datagen.__file__).is_relative_to(Path.cwd()), datagen.__file__
boxes = [trimesh.creation.box((0.2, 0.2, height)) for height in (0.3, 0.4)]
boxes[1].apply_translation((0.3, 0, 0))
for name in ("gt", "good", "bad"):
    Path(name).mkdir()
    moved = [box.copy().apply_translation((0.05 * (name == "bad"), 0, 0)) for box in boxes]
    trimesh.Scene(moved).export(f"{name}/a.glb")
words = ["--pred", "good=good", "bad=bad", "--gt", "gt", "--align", "none", "--points", "300"]
assert main(["evaluate", *words]) == 0

true = SceneGeometry([(box.vertices, box.faces) for box in boxes])
stage, rows = EvaluateScenes(aligned_points=300), []
for method, shift in (("model", 0.0), ("constant", 0.1)):
    predicted = SceneGeometry([(v + [shift, 0, 0], f) for v, f in true.meshes])
    own = score_scene(predicted, true, points_per_object=300)
    own = own.rows(layout_id=0, view_index=0, split="val", method=method)
    more = stage._compared(predicted, true, collisions=False)
    rows += [row | extra for row, extra in zip(own, more, strict=True)]
root = Folder.at("workspace")
output = Output(root / "scores", Identity("scores", 1, {}, {}), SCORES.schema, 1000, "layout_id")
output.begin()
output.write_shard(0, rows, [])
made_by = {"finished": "2026-01-01T00:00:00+00:00", "versions": {"datagen": "0"}}
output.seal({"summary": mean_scores(rows), "provenance": made_by})
write_card(root)
chapter = Chapter("scores", "Scores", scores(Workspace(root)))
Path("scores.html").write_text(render_page("scores", [chapter]))
"""
"""Scores two methods' files, and a workspace's predictions, with the package in this folder."""


def literals(path):
    """Return the strings of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {c.value for c in constants if isinstance(c.value, str) and id(c) not in docs}


def test_columns_of_metrics_are_spelled_in_their_declarations_alone():
    metrics = metrics_at(TAUS)
    names = {name for metric in metrics for name in (metric.name, metric.floor)}
    names |= {ALIGNED + name for name in names}
    assert {"cd", "f_score_0_1", "aligned_f_score_0_05_floor"} <= names
    for path in PACKAGE.rglob("*.py"):
        where = path.relative_to(PACKAGE).as_posix()
        if where not in SPELLED_IN:
            assert not names & literals(path), where


@pytest.mark.parametrize("table", [SCORES, COMPARISON], ids=lambda table: table.folder)
def test_no_column_is_declared_twice(table):
    names = [column.name for column in table.columns]
    assert len(names) == len(set(names)) and all(column.meaning for column in table.columns)


def test_thresholds_of_protocols_and_of_scores_are_declared():
    assert {tau for protocol in PROTOCOLS.values() for tau in protocol.taus} <= set(TAUS)
    assert PROTOCOLS[DEFAULT_PROTOCOL].taus == VIEW_TAUS  # whose scores `aligned_` ones are


def test_missing_prediction_scores_worst():
    for metric in metrics_at(TAUS):
        worst = metric.score(None)
        assert worst == 0.0 if metric.better == "higher" else worst != worst, metric.name


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """Return a folder in which the package of docs/extending.md, with one metric more, was used."""
    pytest.importorskip("open3d")
    folder = tmp_path_factory.mktemp("extended")
    leave = shutil.ignore_patterns("*.safetensors")  # compiled kernels of numba come along
    shutil.copytree(PACKAGE, folder / "datagen", ignore=leave)
    shutil.copytree(REPOSITORY / "manifests", folder / "manifests")
    text = (REPOSITORY / "docs" / "extending.md").read_text()
    [block] = re.findall(r"## A metric\n.*?```python\n(.*?)```", text, re.DOTALL)
    with (folder / "datagen" / "evaluation" / "metrics.py").open("a") as file:
        file.write(block)
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", USE], check=True, cwd=folder, env=environment)
    return folder


def rows(folder):
    return [row for path in folder.glob("*.parquet") for row in pq.read_table(path).to_pylist()]


def test_further_metric_is_computed_in_both_frames_and_for_every_object(extended):
    compared = rows(extended / "dataset" / "comparison")
    assert len(compared) == 6
    assert all(0 < row["hausdorff_floor"] < 0.6 for row in compared)  # samples lie apart
    assert min(row["hausdorff"] for row in compared if row["method"] == "bad") > 0.1  # was moved
    scores = rows(extended / "workspace" / "scores")
    assert len(scores) == 6
    assert all(row["hausdorff"] > row["cd_l2_mean"] for row in scores)
    assert all(row["aligned_hausdorff"] > row["aligned_cd_l2_mean"] for row in scores)
    assert all(row["aligned_hausdorff_floor"] > 0 for row in scores)
    moved = [row for row in scores if row["method"] == "constant"]
    assert all(row["hausdorff"] > row["hausdorff_floor"] for row in moved)


def test_further_metric_is_in_every_summary_with_its_arrow_and_floor(extended):
    folder = extended / "dataset" / "comparison"
    head = next(line for line in (folder / "summary.md").read_text().splitlines() if "CD-S" in line)
    assert "| CD-S ↓ | HD-S ↓ | F-S ↑ |" in head and "| CD-O ↓ | HD-O ↓ | F-O ↑ |" in head
    assert r"& HD-S $\downarrow$ &" in (folder / "summary.tex").read_text()
    with (folder / "summary.csv").open() as file:
        means = {(r["method"], r["score"]): r["mean"] for r in csv.DictReader(file)}
    whole = {r["method"]: r for r in rows(folder) if r["instance_index"] == -1}
    assert float(means["bad", "HD-S"]) == whole["bad"]["hausdorff"]
    assert float(means["good", "HD-S floor"]) == whole["good"]["hausdorff_floor"]
    assert not [score for method, score in means if method == "MIDI" and score.startswith("HD")]


def test_further_metric_is_on_both_pages_and_in_means_and_card(extended):
    assert "HD-S ↓" in (extended / "dataset" / "comparison" / "report.html").read_text()
    page = (extended / "scores.html").read_text()
    assert page.count(">Hausdorff</th>") == 4  # objects and scenes, as they stand and aligned
    assert "floor of Hausdorff" in page
    assert re.search(r">Hausdorff</th><th[^>]*>its floor</th>", page)
    manifest = json.loads((extended / "workspace" / "scores" / "manifest.json").read_text())
    assert all({"hausdorff", "aligned_hausdorff"} <= set(entry) for entry in manifest["summary"])
    card = (extended / "workspace" / "README.md").read_text()
    assert "| `hausdorff` | double | units of the space | Hausdorff distance: the largest" in card
    assert "`aligned_hausdorff_floor`" in card


def test_every_metric_of_scores_is_on_the_page_of_a_workspace(extended):
    page = (extended / "scores.html").read_text()
    for metric in METRICS:
        assert not metric.in_scores or metric.title in page, metric.name
