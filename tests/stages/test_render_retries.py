"""``datagen render`` with a Blender that fails: what is in the rows, and how one is made again."""

from dataclasses import replace
from pathlib import Path

import pytest

from datagen.blender.failures import RenderFailure
from datagen.cli import main
from datagen.engine.stage import RunOptions
from datagen.executors.job import WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, open_dataset
from datagen.stages.assets import PrepareAssets
from datagen.stages.layouts import SampleLayouts
from datagen.stages.render import RenderViews
from tests.engine.toy import shard_hashes

pytestmark = [pytest.mark.blender, pytest.mark.slow]

STAGE = RenderViews(num_views=3, resolution_px=64, samples=8)
FLAGS = ("--views", "3", "--resolution-px", "64", "--samples", "8")
LENIENT = RunOptions(max_failed_fraction=1.0)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    PrepareAssets(num_objects=4).run(Folder.at(root), LocalExecutor(), RunOptions())
    layouts = SampleLayouts(num_layouts=4, max_objects=3)
    layouts.run(Folder.at(root), LocalExecutor(), RunOptions())
    return root


@pytest.fixture
def workspace(tmp_path, scenes) -> Path:
    for name in ("assets", "layouts"):
        (tmp_path / name).symlink_to(scenes / name)
    return tmp_path


def render(root: Path, **settings: int):
    return STAGE.run(
        Folder.at(root), LocalExecutor(WorkerSettings(device="cpu", **settings), threads=1), LENIENT
    )


def fail_on(monkeypatch, layout_id: int, *samples: int) -> list[int]:
    """Let one scene fail with these numbers of samples; return the numbers that were tried."""
    tried: list[int] = []
    works = RenderViews.render_scene

    def render_scene(self, unit, scene, blender):
        if unit == layout_id:
            tried.append(self.samples)
            if self.samples in samples:
                raise RenderFailure("Blender made no progress", "timeout")
        return works(self, unit, scene, blender)

    monkeypatch.setattr(RenderViews, "render_scene", render_scene)
    return tried


def test_recycled_blender_gives_the_same_bytes(workspace):
    kept = render(workspace)
    hashes = shard_hashes(workspace / "renders")
    again = STAGE.run(
        Folder.at(workspace),
        LocalExecutor(WorkerSettings(device="cpu", recycle_scenes=1), threads=1),
        replace(LENIENT, overwrite=True),
    )
    assert again.manifest["provenance"]["events"]["recycled"] == 3
    assert kept.manifest["provenance"]["events"]["recycled"] == 0
    assert shard_hashes(workspace / "renders") == hashes


def test_scene_made_with_fewer_samples_says_so_in_its_rows_and_the_manifest(workspace, monkeypatch):
    tried = fail_on(monkeypatch, 1, 8)
    dataset = render(workspace)
    assert tried == [8, 8, 8, 2]
    said = {(row["layout_id"], row["fallback"]) for row in dataset}
    assert said == {(0, None), (1, "samples=2"), (2, None), (3, None)}
    assert dataset.manifest["counts"]["scenes_with_fallback"] == 1
    assert dataset.manifest["provenance"]["events"]["retry_timeout"] == 3


def test_hopeless_scene_is_a_failed_row_whose_words_make_it_again(workspace, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        fail_on(patch, 2, 8, 2)
        [failed] = render(workspace).manifest["failed"]
    assert failed["unit"] == 2
    command = f"datagen render --only 2 --root {workspace}"
    assert failed["reason"].startswith("timeout: ") and failed["reason"].endswith(command)
    assert main([*command.split()[1:], *FLAGS]) == 0
    assert "render: 2: made in" in capsys.readouterr().out
    dataset = open_dataset(workspace / "renders")
    assert dataset.manifest["failed"] == [] and dataset.units() == [0, 1, 2, 3]
