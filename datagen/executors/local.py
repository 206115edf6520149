"""Runs tasks in this process, one after the other."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from datagen.executors.job import Job, Report, Task, Training, WorkerOptions, WorkerSettings


@dataclass(frozen=True)
class LocalExecutor:
    """Runs everything in this process. Suited to debugging and fastest for small runs."""

    settings: WorkerSettings = field(default_factory=WorkerSettings)
    threads: int | None = None
    """Threads to use. By default all cores that this process may use."""

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[tuple[Task, Report]]:
        if not tasks:
            return
        options = WorkerOptions(self.settings, self.threads or available_cores(), "local")
        with job.open(options) as opened:
            for task in tasks:
                yield task, job.perform(opened, task)

    def train(self, training: Training) -> None:
        training(self.settings.device, self.threads or available_cores())

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def describe(self) -> str:
        return "local"


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
