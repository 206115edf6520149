"""Many small scenes in one worker: does its memory grow?

``python benchmarks/soak.py --scenes 300`` makes procedural objects, layouts and renders in a
temporary folder, once in a Blender that is never recycled and once in one that is, and prints the
resident memory of the worker with its Blender at the start and at the end.
"""

import argparse
import json
import sys
import tempfile

from datagen.engine.stage import RunOptions
from datagen.executors.job import WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder
from datagen.stages.assets import PrepareAssets
from datagen.stages.layouts import SampleLayouts
from datagen.stages.render import RenderViews

SETTLED = 10
"""Scenes after which all code is loaded: the start of the measurement."""
ALLOWED_MB = 1.0
"""A scene."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--objects", type=int, default=48)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Folder.at(folder)
        PrepareAssets(num_objects=arguments.objects).run(root, LocalExecutor(), RunOptions())
        SampleLayouts(num_layouts=arguments.scenes).run(root, LocalExecutor(), RunOptions())
        kept = [soak(root, scenes) for scenes in (0, max(1, arguments.scenes // 3))]
    return 0 if kept[0] <= ALLOWED_MB else 1


def soak(root: Folder, recycle_scenes: int) -> float:
    """Render all scenes in one worker; print and return its growth in MB a scene."""
    log = root.path / "logs" / "render.jsonl"
    log.unlink(missing_ok=True)
    stage = RenderViews(num_views=4, resolution_px=64, samples=1)
    executor = LocalExecutor(WorkerSettings(device="cpu", recycle_scenes=recycle_scenes), threads=1)
    stage.run(root, executor, RunOptions(overwrite=True))
    events = [json.loads(line) for line in log.read_text().splitlines()]
    done = [event for event in events if event["event"] == "done"]
    memory_mb = [event["memory_mb"] for event in done]
    growth_mb = (memory_mb[-1] - memory_mb[SETTLED]) / (len(memory_mb) - 1 - SETTLED)
    recycled = sum(event["counts"]["recycled"] for event in done)
    sys.stdout.write(
        f"{len(done)} scenes, recycled {recycled} times: {memory_mb[SETTLED]:.0f} MB after scene "
        f"{SETTLED}, {memory_mb[-1]:.0f} MB at the end, most {max(memory_mb):.0f} MB: "
        f"{growth_mb:+.3f} MB a scene (allowed {ALLOWED_MB:+.1f})\n"
    )
    return growth_mb


if __name__ == "__main__":
    sys.exit(main())
