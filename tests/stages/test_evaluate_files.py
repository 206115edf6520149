"""``datagen evaluate --pred … --gt …``: scores that known damage implies, and bad input."""

import csv

import numpy as np
import pytest
import trimesh

from datagen.cli import main
from datagen.shards import open_dataset
from tests.evaluation.readers.files import box, degenerate, write

PLACES = [(-0.35, 0.0, -0.3), (0.3, 0.0, -0.35), (0.3, 0.0, 0.35)]
SIZES = [0.15, 0.2, 0.3]
TURN = trimesh.transformations.rotation_matrix(np.radians(90), [0, 1, 0])

IN_MIDI_RANGE = np.diag([2.01, 2.01, 2.01, 1.0])
"""Scale from the truth's range ±0.5 to the range ±1.005 of MIDI and PartCrafter."""


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def things(transform=None, move_last=(0.0, 0.0, 0.0)):
    made = []
    for index, (size, place) in enumerate(zip(SIZES, PLACES, strict=True)):
        mesh = box(size, place)
        mesh.vertices[:, 1] *= 1 + index  # different heights
        if index == 2:
            mesh.apply_translation(move_last)
        made.append(mesh.apply_transform(np.eye(4) if transform is None else transform))
    return made


def evaluate(*words: str) -> int:
    return main(["evaluate", *words, "--points", "2000"])


def rows(method, scene_id="a"):
    found = [r for r in open_dataset("dataset/comparison") if r["method"] == method]
    return [r for r in found if r["scene_id"] == scene_id]


def test_rotated_and_scaled_copy_is_aligned_to_the_floor(tmp_path, capsys):
    pytest.importorskip("open3d")
    write(tmp_path / "gt" / "a.glb", *things())
    scale = np.diag([0.8, 0.8, 0.8, 1.0])
    write(tmp_path / "pred" / "a.glb", *things(scale @ TURN))
    assert evaluate("--pred", "copy=pred", "--format", "scenegen", "--gt", "gt") == 0
    scene, *objects = rows("copy")
    assert scene["align"] == "robust" and scene["f_score_0_1"] == 1.0
    assert scene["cd"] < 3 * scene["cd_floor"] and scene["box_iou"] > 0.95
    assert min(row["box_iou"] for row in objects) > 0.8
    assert "copy" in capsys.readouterr().out


def test_methods_stand_side_by_side_with_the_scores_that_their_damage_implies(tmp_path):
    for scene_id in ("a", "b"):
        write(tmp_path / "gt" / f"{scene_id}.glb", *things())
        for index, mesh in enumerate(things()):
            write(tmp_path / "same" / scene_id / f"instance_{index + 1:02d}.glb", mesh)
        for index, mesh in enumerate(things()[:2]):
            write(tmp_path / "lost" / scene_id / f"instance_{index + 1:02d}.glb", mesh)
        moved = things(IN_MIDI_RANGE, move_last=(-0.05, 0.0, -0.65))  # into the second
        write(tmp_path / "moved" / f"{scene_id}.glb", *moved)
    words = ["--pred", "same=same", "lost=lost", "moved=moved", "--gt", "gt", "--align", "none"]
    words += ["--format", "iscene", "iscene", "midi"]
    assert evaluate(*words) == 0

    scene, *objects = rows("same")
    assert (scene["box_iou"], scene["num_missing"], scene["num_colliding"]) == (1.0, 0, 0)
    assert [row["box_iou"] for row in objects] == pytest.approx([1.0] * 3)
    scene, *objects = rows("lost")
    assert (scene["num_missing"], scene["num_predicted"]) == (1, 2)
    assert scene["precision_0_1"] == 1.0 and scene["recall_0_1"] == pytest.approx(2 / 3, abs=0.02)
    assert [row["f_score_0_1"] for row in objects][2] == 0.0 and objects[2]["partner_index"] is None
    assert scene["warnings"] == ["2 predicted and 3 true instances, matched by order"]
    scene, *objects = rows("moved")
    assert [row["num_colliding"] for row in objects] == [0, 1, 1]
    assert objects[2]["box_iou"] == 0.0

    folder = tmp_path / "dataset" / "comparison"
    with (folder / "summary.csv").open() as file:
        lines = {(r["method"], r["test_set"], r["score"]): r for r in csv.DictReader(file)}
    assert float(lines["moved", "", "Col-O"]["mean"]) == pytest.approx(200 / 3)
    assert float(lines["moved", "", "Col-S"]["mean"]) == 100.0
    assert float(lines["moved", "", "Col-S at 5 %"]["mean"]) == 100.0
    assert float(lines["same", "", "Col-O at 0 %"]["mean"]) == 0.0
    assert float(lines["same", "", "F-S floor"]["mean"]) == 100.0
    assert float(lines["same", "", "F-S"]["mean"]) == 100.0
    assert (
        float(lines["lost", "", "F-O"]["mean"]) < 200 / 3 < float(lines["same", "", "F-O"]["mean"])
    )
    assert lines["MIDI", "3D-FRONT", "F-S"]["published"] == "yes"
    summary = (folder / "summary.md").read_text()
    assert "| same | 2 | 0 |" in summary
    assert "| moved | 66.7 / 100.0 |" in summary
    assert "2000 surface samples of each object" in summary
    assert "F-scores at 0.1, 0.05, 0.01; seed 0" in summary
    assert r"\begin{tabular}" in (folder / "summary.tex").read_text()
    page = (folder / "report.html").read_text()
    assert page.count("after alignment, from above") == 6  # three methods, two scenes
    assert page.index("<h3>same</h3>") < page.index("<h3>moved</h3>")
    assert "2 predicted and 3 true instances" in page
    assert "the truth has no rendered views" in page
    assert "<td>moved</td>" in page and 'src="http' not in page


def test_unordered_parts_are_matched_by_overlap_and_an_unmatched_one_counted(tmp_path):
    write(tmp_path / "gt" / "a.glb", *things())
    parts = [*reversed(things(IN_MIDI_RANGE)), box(0.1, (0.0, 0.9, 0.0)), degenerate()]
    for index, mesh in enumerate(parts):
        write(tmp_path / "pred" / "a" / f"part_{index:02d}.glb", mesh)
    words = ["--pred", "partcrafter=pred", "--gt", "gt", "--align", "none"]
    assert evaluate(*words) == 0
    scene, *objects = rows("partcrafter")
    assert [row["partner_index"] for row in objects] == [2, 1, 0]
    assert (scene["num_superfluous"], scene["num_missing"], scene["num_predicted"]) == (1, 0, 4)


def test_bad_scenes_are_reported_the_rest_scored_and_the_exit_code_tells(tmp_path, capsys):
    for scene_id in "abc":
        write(tmp_path / "gt" / f"{scene_id}.glb", *things())
        write(tmp_path / "pred" / f"{scene_id}.glb", *things())
    (tmp_path / "pred" / "b.glb").write_text("404 not found")
    write(tmp_path / "pred" / "c.glb", degenerate())
    assert evaluate("--pred", "mine=pred", "--gt", "gt", "--align", "none") == 1
    shown = capsys.readouterr().out
    assert "| mine | 1 | 2 | 0 |" in shown
    assert "b.glb: begins with b'404 not " in shown and "c.glb: holds no triangle" in shown
    assert rows("mine")[0]["box_iou"] == 1.0


def test_comparison_in_which_nothing_could_be_scored_has_a_page_that_says_why(tmp_path):
    write(tmp_path / "gt" / "a.glb", *things())
    (tmp_path / "pred").mkdir()
    (tmp_path / "pred" / "a.glb").write_text("404 not found")
    assert evaluate("--pred", "mine=pred", "--gt", "gt", "--align", "none") == 1
    page = (tmp_path / "dataset" / "comparison" / "report.html").read_text()
    assert "a.glb: begins with" in page and "Worst scenes" not in page


def test_protocol_without_object_scores_says_so_on_the_page(tmp_path):
    write(tmp_path / "gt" / "a.glb", *things())
    write(tmp_path / "pred" / "a.glb", *things())
    assert evaluate("--pred", "mine=pred", "--gt", "gt", "--protocol", "partcrafter") == 0
    page = (tmp_path / "dataset" / "comparison" / "report.html").read_text()
    assert "the protocol scores no single objects" in page


def test_true_scene_without_prediction_is_told_by_the_exit_code(tmp_path, capsys):
    for scene_id in "ab":
        write(tmp_path / "gt" / f"{scene_id}.glb", *things())
    write(tmp_path / "pred" / "a.glb", *things())
    words = ["--pred", "mine=pred", "--gt", "gt", "--align", "none"]
    assert evaluate(*words) == 1
    assert "| mine | 1 | 0 | 1 |" in capsys.readouterr().out
    assert evaluate(*words, "--allow-absent") == 0


def test_no_common_scene_shows_both_lists(tmp_path, capsys):
    for name in ("a", "b"):
        write(tmp_path / "gt" / f"{name}.glb", box(0.1))
        write(tmp_path / "pred" / f"scene_{name}.glb", box(0.1))
    assert evaluate("--pred", "mine=pred", "--gt", "gt") == 2
    error = capsys.readouterr().err
    assert "['scene_a', 'scene_b']" in error and "['a', 'b']" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pred", "pred", "--gt", "pred"], "expected NAME=PATH"),
        (["--pred", "a=pred", "--gt", "nowhere"], "--gt nowhere: no such"),
        (["--pred", "a=nowhere", "--gt", "pred"], "nowhere: no such"),
        (["--pred", "a=pred", "--gt", "pred", "--format", "x"], "--format x: unknown"),
        (["--pred", "a=pred", "--gt", "pred", "--protocol", "x"], "--protocol 'x': unknown"),
    ],
)
def test_wrong_words_are_named(tmp_path, capsys, words, message):
    write(tmp_path / "pred" / "a.glb", box(0.1))
    assert evaluate(*words) == 2
    assert message in capsys.readouterr().err


def test_same_command_again_scores_nothing_and_a_changed_file_is_noticed(tmp_path, capsys):
    write(tmp_path / "gt" / "a.glb", *things())
    write(tmp_path / "pred" / "a.glb", *things())
    words = ["--pred", "mine=pred", "--gt", "gt", "--align", "none"]
    assert evaluate(*words) == 0
    shard = next((tmp_path / "dataset" / "comparison").glob("*.parquet"))
    before = shard.stat().st_mtime_ns
    assert evaluate(*words) == 0
    assert shard.stat().st_mtime_ns == before
    write(tmp_path / "pred" / "a.glb", *things(move_last=(0, 0.1, 0)))
    assert evaluate(*words) == 2
    assert "pred mine" in capsys.readouterr().err


def test_scene_beyond_its_declared_range_is_scored_in_its_own_extent_and_says_so(tmp_path):
    write(tmp_path / "gt" / "a.glb", *things())
    write(tmp_path / "pred" / "a.glb", *things(np.diag([7.0, 7.0, 7.0, 1.0])))
    assert evaluate("--pred", "mine=pred", "--gt", "gt", "--align", "none") == 0
    [warning] = rows("mine")[0]["warnings"]
    assert "pass the declared" in warning


def test_scene_of_many_faces_is_scored_without_collisions(tmp_path):
    write(tmp_path / "gt" / "a.glb", *things())
    write(tmp_path / "pred" / "a.glb", *(m.subdivide() for m in things()))
    words = ["--pred", "mine=pred", "--gt", "gt", "--align", "none", "--collision-faces", "100"]
    assert evaluate(*words) == 0
    scene = rows("mine")[0]
    assert scene["num_colliding"] is None and scene["box_iou"] == pytest.approx(1.0)
    assert scene["warnings"] == ["144 faces: no collisions (--collision-faces)"]
