"""This process, one task after the other."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datagen.executors.job import Job, Task


@dataclass(frozen=True)
class LocalExecutor:
    """Serial and in-process: the one to debug with, and the fastest for small runs."""

    device: str = "auto"
    threads: int | None = None

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[tuple[Task, int]]:
        if not tasks:
            return
        threads = self.threads or available_cores()
        with job.open(threads, self.device, "local") as process:
            for task in tasks:
                yield task, job.perform(process, task)

    def close(self) -> None:
        """Nothing is held between runs."""

    def describe(self) -> str:
        return "local"


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
