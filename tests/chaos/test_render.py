"""A killed ``datagen render`` loses no finished scene and leaves no Blender."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from datagen.engine.stage import RunOptions
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, open_dataset
from datagen.shards.declared import RENDERS
from datagen.stages.assets import PrepareAssets
from datagen.stages.layouts import SampleLayouts
from datagen.stages.render import RenderViews
from tests.processes import is_alive, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
STAGE = RenderViews(num_views=4, resolution_px=64, samples=2)
WORDS = ("render", "--views", "4", "--resolution-px", "64", "--samples", "2")

pytestmark = pytest.mark.blender


def test_kill_during_render_loses_no_finished_scene_and_leaves_no_blender(tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for stage in (PrepareAssets(num_objects=4), SampleLayouts(num_layouts=3, max_objects=4), STAGE):
        stage.run(Folder.at(calm), LocalExecutor(threads=1), RunOptions())
    killed.mkdir()
    for name in ("assets", "layouts"):
        (killed / name).symlink_to(calm / name)
    driver = subprocess.Popen(
        [sys.executable, "-m", "datagen.cli", *WORDS, "--root", str(killed)],
        cwd=REPOSITORY,
        stderr=(tmp_path / "driver.log").open("wb"),
    )
    parts = killed / "renders" / ".parts" / "00000"
    wait_until(lambda: any(parts.glob("0*.parquet")) or driver.poll() is not None, 120)
    blenders = [child.pid for child in psutil.Process(driver.pid).children()]
    driver.kill()
    driver.wait()
    finished = [int(path.stem) for path in parts.glob("0*.parquet")]
    assert 0 < len(finished) < 3, "it was to be killed between the first part and the last"
    assert wait_until(lambda: not any(map(is_alive, blenders)))

    STAGE.run(Folder.at(killed), LocalExecutor(threads=1), RunOptions())
    lines = map(json.loads, (killed / "logs/render.jsonl").read_text().splitlines())
    made = Counter(unit for line in lines if line["event"] == "done" for unit in line["units"])
    assert set(made) | set(finished) == {0, 1, 2}
    assert all(made[unit] <= 1 for unit in finished), "a finished scene was rendered again"
    ours, theirs = open_dataset(calm / "renders"), open_dataset(killed / "renders")
    for one, other in zip(ours, theirs, strict=True):
        for name in RENDERS.schema.names:
            assert np.array_equal(one[name], other[name]), name
