"""Ray, on one machine or a cluster: the only file that knows about it."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from datagen.errors import ConfigError, StageError
from datagen.executors.job import Job, Task

logger = logging.getLogger(__name__)

DEATHS_PER_TASK = 2
"""A task whose worker died this often is a failed row: it is likely what kills the worker."""


@dataclass(frozen=True)
class RayExecutor:
    """One actor a worker; tasks go to whichever is free."""

    num_workers: int
    address: str | None = None
    device: str = "auto"
    gpus_per_worker: float = 0.0
    _started_here: list[bool] = field(default_factory=list, compare=False, repr=False)

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[tuple[Task, int]]:
        if tasks:
            self._start()
            yield from self._run(job, tasks)

    def close(self) -> None:
        """Leave Ray, or end it if it was started here; stages in between share one start."""
        if self._started_here:
            self._started_here.clear()
            ray.shutdown()

    def describe(self) -> str:
        return f"ray, at most {self.num_workers} workers"

    def _start(self) -> None:
        """Connect to Ray, or start it here."""
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            ray.init(
                address=self.address,
                include_dashboard=None if self.address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"--ray-address {self.address}: Ray does not answer ({error}). "
                "Expected the address of a running cluster (see `ray start`); leave the flag out "
                "for this machine."
            ) from error
        self._started_here.append(True)

    def _run(self, job: Job, tasks: Sequence[Task]) -> Iterator[tuple[Task, int]]:
        num_workers = self._workers_that_fit(len(tasks))
        remote = ray.remote(num_cpus=1, num_gpus=self.gpus_per_worker)(_Worker)
        todo = list(reversed(tasks))
        deaths: dict[Task, int] = {}
        running: dict[Any, tuple[Any, Task]] = {}
        workers: list[Any] = []
        job_ref = ray.put(job)

        def start(worker: Any) -> None:
            if todo:
                task = todo.pop()
                running[worker.perform.remote(task)] = (worker, task)

        def new_worker() -> Any:
            workers.append(remote.remote(job_ref, self.device, f"worker-{len(workers):02d}"))
            return workers[-1]

        for _ in range(num_workers):
            start(new_worker())
        while running:
            [ready], _ = ray.wait(list(running), num_returns=1)
            worker, task = running.pop(ready)
            try:
                failed = ray.get(ready)
            except RayTaskError as error:
                raise error.cause from None
            except RayActorError as error:
                deaths[task] = deaths.get(task, 0) + 1
                logger.warning(
                    f"{job.name}: a worker died on {task.units[0]} ({first_line(error)})"
                )
                worker = new_worker()
                if deaths[task] < DEATHS_PER_TASK:
                    todo.append(task)
                    start(worker)
                    continue
                job.fail(task, f"its worker died {DEATHS_PER_TASK} times")
                failed = len(task.units)
            start(worker)
            if not any(busy is worker for busy, _ in running.values()):
                ray.wait([worker.close.remote()])
            yield task, failed

    def _workers_that_fit(self, num_tasks: int) -> int:
        resources = ray.cluster_resources()
        fit = int(resources.get("CPU", 0))
        if self.gpus_per_worker:
            fit = min(fit, int(resources.get("GPU", 0) / self.gpus_per_worker))
        if fit < 1:
            raise StageError(
                f"Ray has no room for a worker of 1 core and {self.gpus_per_worker} GPUs "
                f"(it has {resources}). Free some, or ask for less."
            )
        if fit < self.num_workers:
            logger.info(f"--workers {self.num_workers}: {fit} run at once, that is what fits here")
        return min(fit, self.num_workers, num_tasks)


class _Worker:
    """An actor that opens the job once and performs tasks."""

    def __init__(self, job: Job, device: str, name: str) -> None:
        self._job = job
        self._stack = ExitStack()
        self._process: Any = None
        self._arguments = (1, device, name)

    def perform(self, task: Task) -> int:
        if self._process is None:
            self._process = self._stack.enter_context(self._job.open(*self._arguments))
        return self._job.perform(self._process, task)

    def close(self) -> None:
        self._stack.close()


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
