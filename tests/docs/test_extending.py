"""Every example of docs/extending.md works as the page says, without a change elsewhere."""

import re
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
from datagen.run import run_stage
from datagen.shards import Folder
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
