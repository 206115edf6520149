"""Random kills during a run of thirty scenes; reruns complete it with undisturbed content."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from datagen.core.seeding import rng_for
from datagen.engine.stage import RunOptions
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, open_dataset
from datagen.shards.declared import RENDERS
from datagen.stages.assets import PrepareAssets
from datagen.stages.layouts import SampleLayouts
from datagen.stages.render import RenderViews

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_SCENES = 30
QUALITY = ("--views", "3", "--resolution-px", "64", "--samples", "1")
VICTIMS = ("blender_scripts/worker.py", "ray::_Worker", "driver")
WAIT_S = 120.0

pytestmark = [pytest.mark.blender, pytest.mark.ray, pytest.mark.slow]


def start_render(root: Path) -> "subprocess.Popen[bytes]":
    words = ["render", "--root", str(root), "--workers", "2", *QUALITY]
    with (root / "driver.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "datagen.cli", *words],
            cwd=REPOSITORY,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )


def finished_units(root: Path) -> int:
    log = root / "logs/render.jsonl"
    return log.read_text().count('"event": "done"') if log.exists() else 0


def wait_for_units(root: Path, count: int, driver: "subprocess.Popen[bytes]") -> bool:
    """Wait until this number of units was made (in all runs) or the driver has ended."""
    deadline = time.monotonic() + WAIT_S
    pause = threading.Event()
    while finished_units(root) < count and driver.poll() is None:
        assert time.monotonic() < deadline, (root / "driver.log").read_text()
        pause.wait(0.02)
    return driver.poll() is None


def kill_one(kind: str, driver: "subprocess.Popen[bytes]", choice: float) -> None:
    if kind == "driver":
        driver.kill()
        driver.wait()
        return
    children = psutil.Process(driver.pid).children(recursive=True)
    candidates = [process for process in children if is_a(process, kind)]
    if candidates:
        victim = candidates[int(choice * len(candidates))]
        victim.send_signal(signal.SIGKILL)


def is_a(process: psutil.Process, kind: str) -> bool:
    try:
        return kind in " ".join(process.cmdline()[:2])
    except psutil.NoSuchProcess:  # it ended since it was listed
        return False


def test_random_kills_change_no_camera_mask_or_visibility(tmp_path):
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    options = RunOptions()
    PrepareAssets(num_objects=8).run(Folder.at(calm), LocalExecutor(), options)
    SampleLayouts(num_layouts=NUM_SCENES, max_objects=4).run(
        Folder.at(calm), LocalExecutor(), options
    )
    stormy.mkdir()
    for name in ("assets", "layouts"):
        (stormy / name).symlink_to(calm / name)
    stage = RenderViews(num_views=3, resolution_px=64, samples=1)
    undisturbed = stage.run(Folder.at(calm), LocalExecutor(threads=1), options)

    rng = rng_for(0, "chaos")
    kinds = ["driver", *rng.choice(VICTIMS[:2], size=6)]
    driver = start_render(stormy)
    for kind in rng.permutation(kinds):
        if wait_for_units(stormy, finished_units(stormy) + 2, driver):
            kill_one(str(kind), driver, float(rng.random()))
        if driver.poll() is not None:
            driver = start_render(stormy)
    assert driver.wait(timeout=WAIT_S) == 0, (stormy / "driver.log").read_text()

    disturbed = open_dataset(stormy / "renders")
    assert disturbed.manifest["failed"] == []
    assert disturbed.fingerprint == undisturbed.fingerprint
    columns = [name for name in RENDERS.schema.names if name != "rgb"]
    ours, theirs = list(disturbed.rows(columns)), list(undisturbed.rows(columns))
    assert len(ours) == len(theirs) == 3 * NUM_SCENES
    assert [plain(row) for row in ours] == [plain(row) for row in theirs]
    assert not list(stormy.glob("renders/.*"))
    assert (stormy / "driver.log").read_text().count("died") >= 1


def plain(row: dict[str, object]) -> dict[str, object]:
    """Return a row with its tensors as bytes, so that rows compare as a whole."""
    return {k: v.tobytes() if hasattr(v, "tobytes") else v for k, v in row.items()}
