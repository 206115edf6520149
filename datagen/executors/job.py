"""The interface between stages and executors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from datagen.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda", "optix"]


@dataclass(frozen=True)
class Task:
    """Units of one shard that are made together."""

    shard: int
    units: tuple[int, ...]


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of every worker. They do not change the data."""

    device: DeviceName = "auto"
    """Device for Cycles and networks. auto: a GPU if one is visible, otherwise the CPU."""
    recycle_scenes: int = 500
    """Restart Blender after this number of scenes; 0: never."""
    recycle_growth_mb: float = 2048.0
    """Restart Blender when its memory has grown by this many MB; 0: never."""
    blender: str | None = None
    """Path of a Blender executable, or of a Python with bpy; the same path on every machine. By
    default the environment variable DATAGEN_BLENDER, or if it is not set, bpy of this Python."""

    def __post_init__(self) -> None:
        if min(self.recycle_scenes, self.recycle_growth_mb) < 0:
            raise ConfigError(
                "--recycle-scenes and --recycle-growth-mb must be at least 0, got "
                f"{self.recycle_scenes} and {self.recycle_growth_mb}."
            )


@dataclass(frozen=True)
class WorkerOptions:
    """Options of one worker. They do not change the data."""

    settings: WorkerSettings
    threads: int
    name: str
    """Part of the names of the worker's log files."""


@dataclass(frozen=True)
class Report:
    """The result of a task, for the progress display. It does not change the data."""

    reasons: Mapping[int, str] = field(default_factory=dict)
    """The reason of each failed unit, by unit."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Counts of rows (``kept``, ``dropped``) and of events (``retry_timeout``, ``recycled``)."""
    seconds: float = 0.0
    memory_mb: float = 0.0
    """Resident memory of the worker and its children at the end of the task."""
    worker: str = ""
    alive: int = 1
    """Number of busy workers; set by the executor."""

    @property
    def failed(self) -> int:
        """Number of failed units."""
        return len(self.reasons)


class Job(Protocol):
    """The work of a stage. Each worker opens it once, then performs tasks. Picklable."""

    @property
    def name(self) -> str: ...

    @property
    def uses_gpu(self) -> bool:
        """Whether a worker uses a GPU, or a share of one, if there is one."""
        ...

    def open(self, options: WorkerOptions) -> AbstractContextManager[Any]: ...

    def perform(self, opened: Any, task: Task) -> Report:
        """Make and write the rows of a task."""
        ...

    def fail(self, task: Task, reason: str) -> Report:
        """Record a task as failed because its worker died."""
        ...


class Training(Protocol):
    """A training, run by one or several processes. Picklable. It resumes from its last state."""

    @property
    def divides(self) -> int:
        """The number of processes must divide this."""
        ...

    @property
    def log(self) -> Path:
        """Log file of the first process, if there are several."""
        ...

    def __call__(self, device: str, threads: int) -> None:
        """Train as the only process, or as one process of ``torch.distributed``."""
        ...


class Executor(Protocol):
    """Decides where tasks and trainings run."""

    @property
    def settings(self) -> WorkerSettings:
        """What every worker is given."""
        ...

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[tuple[Task, Report]]:
        """Perform all tasks in any order; yield each with its report."""
        ...

    def train(self, training: Training) -> None:
        """Run a training to its end."""
        ...

    def close(self) -> None:
        """Release all resources."""
        ...

    def describe(self) -> str:
        """Return a phrase for the manifest and the log."""
        ...
