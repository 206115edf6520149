"""The whole page, of complete, partial and damaged workspaces."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from datagen.errors import DatasetError
from datagen.evaluation.tables import SCORES
from datagen.report import write_report
from tests.report.workspace import score_rows
from tests.shards.tiny import write

VOID = {"meta", "img", "br", "line", "rect", "circle", "polygon", "polyline"}


class Outline(HTMLParser):
    """Checks that elements nest, and collects their text, addresses and sections."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text: list[str] = []
        self.sections: list[str] = []
        self.svgs = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.sources += [v for k, v in attrs if k in ("src", "href") and v is not None]
        self.svgs += tag == "svg"
        if tag == "section":
            self.sections.append(values["id"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def outline(path: Path) -> Outline:
    parser = Outline()
    parser.feed(path.read_text(encoding="utf-8"))
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def whole_report(whole_workspace: Path) -> Outline:
    return outline(write_report(whole_workspace))


def test_report_of_whole_workspace_makes_no_request(whole_report):
    outside = [
        s for s in whole_report.sources if not s.startswith(("data:image/webp;base64,", "#"))
    ]
    assert outside == []
    assert len([s for s in whole_report.sources if s.startswith("data:")]) > 20


def test_report_of_whole_workspace_has_every_chapter_with_its_content(whole_report):
    assert whole_report.sections == [
        "stages", "assets", "layouts", "views", "voxels", "training", "predictions", "scores",
    ]  # fmt: skip
    assert "Not made yet" not in " ".join(whole_report.text)


def test_report_counts_dropped_views_with_their_reason(whole_report):
    text = " ".join(whole_report.text)
    assert "4 × dropped occluded" in text
    assert "scene 0: 6 views kept, 2 dropped" in text
    assert "2 occluded" in text
    assert "1 of 160 px visible (1%)" in text


def test_report_names_quarantined_object_and_escapes_its_name(whole_workspace, whole_report):
    assert "no & faces" in " ".join(whole_report.text)
    assert "quarantined: 0 faces" in " ".join(whole_report.text)
    assert "no & faces" not in (whole_workspace / "report.html").read_text()


def test_report_of_prediction_names_instances_sampled_empty(whole_report):
    assert "sampled empty: 2" in " ".join(whole_report.text)


def test_report_scores_means_count_missing_objects_as_zero(whole_workspace):
    html = (whole_workspace / "report.html").read_text()
    rows = re.findall(r"<tr><td>train</td><td>(\w+)</td>(.*?)</tr>", html)
    cells = [
        (m, [re.sub("<.*?>", "", c) for c in re.findall(r"<td.*?>(.*?)</td>", r)]) for m, r in rows
    ]
    objects, scenes = cells[:3], cells[3:]
    assert [method for method, _ in objects] == ["model", "untrained", "constant"]
    # n, missing, voxel IoU: (0.01 + 0) / 2; CD is the mean over the one that was found.
    assert objects[1][1][:3] == ["2", "1", "0.0050"] or objects[1][1][:3] == ["2", "1", "0.005"]
    assert objects[1][1][7] == "0.124"
    assert scenes[0][1][:3] == ["1", "0", "0.550"]


def test_report_has_aligned_scores_collisions_and_charts_of_scores(whole_report):
    text = " ".join(whole_report.text)
    assert "Each scene has one alignment" in text
    assert "Col-S, %, by tolerance" in text
    assert "mask, % of the image" in text and "hidden by others" in text
    assert "0.875" in text  # the model's aligned F @ 0.1: 0.6 + 0.55 / 2


def test_report_of_scores_of_an_older_datagen_names_the_command(whole_workspace, tmp_path):
    root = tmp_path / "older"
    shutil.copytree(whole_workspace, root)
    shutil.rmtree(root / "scores")
    schema = SCORES.schema
    for name in [name for name in schema.names if name.startswith("aligned_")]:
        schema = schema.remove(schema.get_field_index(name))
    write(root, "evaluate", "scores", schema, score_rows(), {})
    text = " ".join(outline(write_report(root)).text)
    assert "Run datagen evaluate --overwrite." in text


def test_report_marks_best_of_each_split_only_where_methods_differ(whole_workspace):
    html = (whole_workspace / "report.html").read_text()
    model = re.findall(r"<tr><td>train</td><td>model</td>(.*?)</tr>", html)[0]
    assert "<b>0.550</b>" in model
    constant = re.findall(r"<tr><td>train</td><td>constant</td>(.*?)</tr>", html)[0]
    assert "<b>0.100</b>" not in constant
    assert "<b>0.000</b>" not in model + constant  # F @ 0.01, the same for all


def test_report_of_unfinished_workspace_names_the_command_of_each_missing_stage(
    whole_workspace, tmp_path
):
    root = tmp_path / "partial"
    shutil.copytree(whole_workspace / "assets", root / "assets")
    shutil.copytree(whole_workspace / "layouts", root / "layouts")
    (root / "layouts" / "manifest.json").unlink()
    text = " ".join(outline(write_report(root)).text)
    assert "plain table" in text
    for verb in ("layouts", "render", "encode", "train", "infer", "evaluate"):
        assert f"Run datagen {verb}." in text


def test_report_of_empty_folder_names_the_first_command(tmp_path):
    text = " ".join(outline(write_report(tmp_path)).text)
    assert "No stage is finished here yet" in text


def test_report_of_missing_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        write_report(tmp_path / "nowhere")


def test_report_of_prediction_whose_voxels_are_missing_names_the_file(whole_workspace, tmp_path):
    root = tmp_path / "damaged"
    shutil.copytree(whole_workspace, root)
    (root / "predictions" / "1_0" / "occupancy.npz").unlink()
    with pytest.raises(DatasetError, match=r"occupancy\.npz"):
        write_report(root)
    assert not list(root.glob(".report*"))


def test_report_written_twice_is_the_same_file(whole_workspace, tmp_path):
    root = tmp_path / "dataset"
    shutil.copytree(whole_workspace, root)
    first = write_report(root).read_bytes()
    assert write_report(root).read_bytes() == first
    assert len(first) < 15 * 2**20
