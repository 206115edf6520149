"""Every example of docs/extending.md works as the page says, without a change elsewhere."""

import json
import re
import shutil
from dataclasses import fields, make_dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from datagen import cli
from datagen.assets.source import SOURCES
from datagen.commands import stage_command
from datagen.core.fields import deciding_fields
from datagen.engine.plan import plan_stage
from datagen.executors.job import WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.exports.export import FORMATS, export
from datagen.exports.parts import view_name
from datagen.report import page, write_report
from datagen.run import run_stage
from datagen.shards import Folder, open_dataset
from datagen.stages.assets import PrepareAssets
from datagen.stages.layouts import SampleLayouts
from datagen.stages.pipeline import Pipeline
from tests.stages.shapes import write_assets

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"


def example(section: str) -> dict:
    """Execute the Python of a section and return its names."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.S | re.M)[1]
    names: dict = {"__name__": f"extending_{section.split()[-1]}"}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_field_is_a_flag_and_part_of_the_identity():
    kind = example("A field")["RenderMore"]
    command = stage_command("render", replace(Pipeline(), render=kind()))
    stage = cli._parse(command, "datagen render", ["--caption", "hello"]).chosen()
    assert stage.caption == "hello"
    assert deciding_fields(stage)["caption"] == "hello"


def test_source_lists_and_fetches_its_objects(tmp_path):
    before = dict(SOURCES)
    try:
        example("A source")
        stage = PrepareAssets(source="boxes")
        assert [obj.uid for obj in stage.objects] == ["box-1", "box-2", "box-3"]
        assert stage.opened.fetch(stage.objects[1], tmp_path).path.is_file()
        assert len(stage.identity({}).inputs["source"]) == 64
    finally:
        SOURCES.clear()
        SOURCES.update(before)


def test_chapter_is_on_the_page_and_names_its_command_until_then(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "CHAPTERS", page.CHAPTERS)  # puts them back afterwards
    example("A report chapter")
    before = write_report(tmp_path).read_text()
    assert "layouts/manifest.json is missing. Run datagen layouts." in before
    shutil.copytree(tiny / "layouts", tmp_path / "layouts")
    html = write_report(tmp_path).read_text()
    assert html.count("Radii &lt;m&gt;") == 2  # in the navigation, and as a heading
    radii = [p["radius_m"] for row in open_dataset(tiny / "layouts") for p in row["placements"]]
    assert f"The largest radius is {max(radii):.2f} m." in html
    assert f'aria-label="radius, m, n = {len(radii)}"' in html


def test_export_writes_its_files_and_resumes(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("datagen.exports.export.FORMATS", FORMATS.copy())
    example("An export")
    out = Folder.at(tmp_path / "out")
    assert export("cameras", Folder.at(tiny), out, LocalExecutor()) == "2 files"
    cameras = {}
    for shard in (0, 1):
        cameras |= json.loads(out.read_bytes(f"cameras-{shard:05d}.json"))
    kept = [row for row in open_dataset(tiny / "renders") if row["kept"]]
    assert cameras == {view_name(row): row["world_to_camera"].tolist() for row in kept}
    made = out.read_bytes("cameras-00001.json")
    (tmp_path / "out/cameras-00001.json").unlink()
    export("cameras", Folder.at(tiny), out, LocalExecutor())
    assert out.read_bytes("cameras-00001.json") == made


def test_stage_runs_resumes_and_is_a_verb(tmp_path):
    kind = example("A stage")["MeasureAreas"]
    write_assets(tmp_path)
    layouts, _ = run_stage(SampleLayouts(num_layouts=3, stack_levels=0), str(tmp_path))
    areas, lines = run_stage(kind(), str(tmp_path))
    assert lines[0].startswith("areas: 3 rows, 0 failed in ")
    expected = [
        np.pi * sum(placement["radius_m"] ** 2 for placement in row["placements"])
        for row in layouts
    ]
    assert [row["area_m2"] for row in areas] == pytest.approx(expected)
    planned = plan_stage(kind(), Folder.at(tmp_path), num_workers=1, settings=WorkerSettings())
    assert planned.num_units == 3

    own = [(f.name, f.type, f) for f in fields(Pipeline)]
    longer = make_dataclass("Longer", [*own, ("areas", kind, kind())], frozen=True, kw_only=True)
    stage = cli._parse(stage_command("areas", longer()), "datagen areas", ["--stacked"]).chosen()
    assert stage == kind(stacked=True)


def test_page_counts_files_that_exist():
    table = PAGE.read_text().split("## A field")[0]
    for name in re.findall(
        r"`((?:assets|shards|evaluation|report|exports|stages)/\w+\.py)`", table
    ):
        assert (PAGE.parents[1] / "datagen" / name).is_file(), name
