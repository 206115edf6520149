"""A toy whose workers each hold a Blender, run by ``python -m tests.executors.blender_toy``."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from datagen.blender import BlenderProcess
from datagen.engine.stage import Inputs, RunOptions
from datagen.engine.units import Process, WorkerContext
from datagen.errors import DatagenError
from datagen.executors.ray import RayExecutor
from datagen.log import configure_logging
from datagen.shards import Folder
from tests.engine.toy import Toy


@dataclass(frozen=True, kw_only=True)
class BlenderToy(Toy):
    """Writes the process ids of its workers and their Blenders into ``pids/``."""

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        log = context.folder.path / "logs" / f"{context.name}.log"
        with (
            super().open(inputs, context) as process,
            BlenderProcess(log, threads=1, device="cpu") as blender,
        ):
            pid = blender.hello["pid"]
            pids = context.folder.path.parent / "pids"
            pids.mkdir(exist_ok=True)
            (pids / str(pid)).touch()
            yield process


def main() -> None:
    configure_logging()
    root, journal, slow_s = sys.argv[1:4]
    stage = BlenderToy(count=12, slow_s=float(slow_s), journal=Path(journal))
    try:
        with closing(RayExecutor(2)) as executor:
            stage.run(Folder.at(root), executor, RunOptions())
    except DatagenError as error:  # as the command line does
        sys.exit(f"datagen: {error}")


if __name__ == "__main__":
    main()
