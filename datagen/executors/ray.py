"""Runs tasks on Ray, on one machine or a cluster. Only the files ``ray*.py`` import Ray."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from datagen.errors import StageError, first_line
from datagen.executors.job import Job, Report, Task, Training, WorkerOptions, WorkerSettings
from datagen.executors.ray_session import SILENCE_S, RaySession, answers, gone

logger = logging.getLogger(__name__)

DEATHS_PER_TASK = 3
"""A task fails after its worker has died this often: the task is the likely cause."""
NODE_DIED = "node has died"
"""In Ray's message if a worker died with its machine. Then the task is not the cause."""


@dataclass(frozen=True)
class RayExecutor:
    """Runs each worker as a Ray actor, and gives tasks to free workers."""

    num_workers: int
    settings: WorkerSettings = field(default_factory=WorkerSettings)
    address: str | None = None
    """Address of a running cluster; None starts Ray on this machine."""
    slots_per_gpu: int = 1
    """Number of workers that share a GPU."""

    @cached_property
    def session(self) -> RaySession:
        """The connection to Ray that all stages share."""
        return RaySession(self.address)

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[tuple[Task, Report]]:
        if tasks:
            self.session.start()
            yield from _Workers(self, job, tasks).work()

    def train(self, training: Training) -> None:
        from datagen.executors.ray_train import run_together  # takes a second to import

        run_together(self.session, self.num_workers, self.settings.device, training)

    def close(self) -> None:
        """Disconnect from Ray, or end it if it was started here."""
        self.session.close()

    def describe(self) -> str:
        return f"ray, at most {self.num_workers} workers"

    def gpu_share(self, job: Job) -> float:
        """Return the number of GPUs, in [0, 1], that a worker requests from Ray.

        Ray sets CUDA_VISIBLE_DEVICES of the worker.

        Raises:
            StageError: a GPU is required and the cluster has none.
        """
        if not job.uses_gpu or self.settings.device == "cpu":
            return 0.0
        if ray.cluster_resources().get("GPU", 0) > 0:
            return 1.0 / self.slots_per_gpu
        if self.settings.device == "auto":
            return 0.0
        raise StageError(
            f"--device {self.settings.device}: no machine of the Ray cluster has a GPU. "
            "Expected one; use --device auto or cpu, or start a node with `ray start --num-gpus`."
        )

    def num_that_fit(self, gpus: float) -> int:
        """Return the number of workers that run at once: at most ``num_workers``.

        Args:
            gpus: from ``gpu_share``.

        Raises:
            StageError: not even one worker fits.
        """
        resources = ray.cluster_resources()
        fit = int(resources.get("CPU", 0))
        if gpus:
            fit = min(fit, int(resources.get("GPU", 0) / gpus + 1e-6))
        if fit < 1:
            raise StageError(
                f"Ray has no room for a worker of 1 core and {gpus} GPUs "
                f"(it has {resources}). Expected room for at least one; free some resources."
            )
        if fit < self.num_workers:
            logger.info(f"--workers {self.num_workers}: only {fit} fit here, so {fit} run at once")
        return min(fit, self.num_workers)


class _Workers:
    """The workers of one run. A worker gets its first task after it has started."""

    def __init__(self, executor: RayExecutor, job: Job, tasks: Sequence[Task]) -> None:
        self._executor, self._job = executor, job
        self._todo = list(reversed(tasks))
        self._gpus = executor.gpu_share(job)
        self._size = min(executor.num_that_fit(self._gpus), len(tasks))
        self._actor = ray.remote(num_cpus=1, num_gpus=self._gpus)(_Worker)
        self._job_ref = ray.put(job)
        self._waits: dict[Any, tuple[Any, Task | None]] = {}
        self._deaths: Counter[Task] = Counter()
        self._num_started = 0

    def work(self) -> Iterator[tuple[Task, Report]]:
        try:
            for _ in range(self._size):
                self._start_worker()
            while self._todo or any(task for _, task in self._waits.values()):
                yield from self._next()
        finally:
            if answers():
                for worker, _ in self._waits.values():
                    ray.kill(worker)  # its Blender ends when the pipe closes

    def _next(self) -> Iterator[tuple[Task, Report]]:
        ready, _ = ray.wait(list(self._waits), num_returns=1, timeout=SILENCE_S)
        if not ready:
            return self._check_ray()
        worker, task = self._waits.pop(ready[0])
        try:
            report = ray.get(ready[0])
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:
            yield from self._handle_death(task, error)
            return
        self._assign(worker)
        if task is not None:
            yield task, replace(report, alive=max(1, self._busy()))

    def _handle_death(
        self, task: Task | None, error: RayActorError
    ) -> Iterator[tuple[Task, Report]]:
        """Replace a dead worker. Its task is retried, and fails after DEATHS_PER_TASK deaths."""
        what = "a worker died" if task is None else f"a worker died on {task.units[0]}"
        logger.warning(f"{self._job.name}: {what} ({first_line(error)})")
        self._check_ray()
        self._start_worker()
        if task is None:
            return
        self._deaths[task] += NODE_DIED not in str(error)
        if self._deaths[task] < DEATHS_PER_TASK:
            self._todo.append(task)
            return
        reason = f"killed: its worker died {DEATHS_PER_TASK} times ({first_line(error)})"
        yield task, replace(self._job.fail(task, reason), alive=self._busy())

    def _check_ray(self) -> None:
        if not answers():
            raise StageError(gone("Ray has ended: its control service does not answer"))
        if not any(node["Alive"] for node in ray.nodes()):
            raise StageError(gone("Ray has ended: none of its machines is alive"))

    def _start_worker(self) -> None:
        name = f"worker-{self._num_started:02d}"
        options = WorkerOptions(self._executor.settings, threads=1, name=name)
        self._num_started += 1
        worker = self._actor.remote(self._job_ref, options)
        self._waits[worker.ready.remote()] = (worker, None)

    def _assign(self, worker: Any) -> None:
        if self._todo:
            task = self._todo.pop()
            self._waits[worker.perform.remote(task)] = (worker, task)
            return
        ray.wait([worker.close.remote()], timeout=SILENCE_S)
        ray.kill(worker)  # frees its core for a worker that waits

    def _busy(self) -> int:
        return sum(task is not None for _, task in self._waits.values())


class _Worker:
    """An actor that opens the job once and performs tasks."""

    def __init__(self, job: Job, options: WorkerOptions) -> None:
        self._job, self._options = job, options
        self._stack = ExitStack()
        self._opened: Any = None

    def ready(self) -> None:
        """Return when the worker has started."""

    def perform(self, task: Task) -> Report:
        if self._opened is None:
            self._opened = self._stack.enter_context(self._job.open(self._options))
        return self._job.perform(self._opened, task)

    def close(self) -> None:
        self._stack.close()
