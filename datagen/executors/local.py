"""This process, one task after the other."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datagen.executors.job import Job, Report, Task, WorkerOptions


@dataclass(frozen=True)
class LocalExecutor:
    """Serial and in-process: the one to debug with, and the fastest for small runs."""

    device: str = "auto"
    threads: int | None = None
    recycle_scenes: int = 0
    recycle_growth_mb: float = 0.0
    blender: str | None = None

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[tuple[Task, Report]]:
        if not tasks:
            return
        options = WorkerOptions(
            threads=self.threads or available_cores(),
            device=self.device,
            name="local",
            recycle_scenes=self.recycle_scenes,
            recycle_growth_mb=self.recycle_growth_mb,
            blender=self.blender,
        )
        with job.open(options) as opened:
            for task in tasks:
                yield task, job.perform(opened, task)

    def close(self) -> None:
        """Nothing is held between runs."""

    def describe(self) -> str:
        return "local"


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
