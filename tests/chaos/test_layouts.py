"""A killed run of ``layouts`` keeps its finished shards; the rerun gives the undisturbed bytes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datagen.engine.stage import RunOptions
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder
from datagen.stages.layouts import SampleLayouts
from tests.processes import wait_until
from tests.stages.shapes import write_assets

COUNT = 3500
STAGE = SampleLayouts(num_layouts=COUNT, max_stacked_per_table=3, stack_levels=2)


def make(root: Path) -> list[bytes]:
    STAGE.run(Folder.at(root), LocalExecutor(), RunOptions())
    return [path.read_bytes() for path in sorted((root / "layouts").glob("shard-*.parquet"))]


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_bytes(tmp_path):
    calm, root = tmp_path / "calm", tmp_path / "killed"
    for folder in (calm, root):
        write_assets(folder)
    flags = ["--max-stacked-per-table", "3", "--stack-levels", "2", "--root", str(root)]
    command = [sys.executable, "-m", "datagen.cli", "layouts", "--n", str(COUNT), *flags]
    process = subprocess.Popen(command)
    first = root / "layouts" / "shard-00000.parquet"
    wait_until(lambda: first.exists() or process.poll() is not None, 120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists()
    assert not (root / "layouts" / "manifest.json").exists(), "it was to be killed before"
    early = first.stat().st_mtime_ns
    made = make(root)
    assert first.stat().st_mtime_ns == early, "a finished shard is not made again"
    assert made == make(calm)
