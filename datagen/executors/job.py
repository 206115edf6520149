"""What stages and executors say to each other."""

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
    """How workers work: an executor hands it on as it is. Nothing of it changes the bytes."""

    device: DeviceName = "auto"
    """Where Cycles and networks run; auto: on a GPU if one is visible."""
    recycle_scenes: int = 500
    """Start a fresh Blender after this many scenes; 0: never."""
    recycle_growth_mb: float = 2048.0
    """Start a fresh Blender when its memory has grown by this much; 0: never."""
    blender: str | None = None
    """A Blender executable, or a Python with bpy, at the same place on every machine; by default
    what DATAGEN_BLENDER names, else this Python's bpy."""

    def __post_init__(self) -> None:
        if min(self.recycle_scenes, self.recycle_growth_mb) < 0:
            raise ConfigError("--recycle-scenes and --recycle-growth-mb must not be negative.")


@dataclass(frozen=True)
class WorkerOptions:
    """What one worker is given: never anything that changes the bytes."""

    settings: WorkerSettings
    threads: int
    name: str
    """Distinguishes the log files of workers."""


@dataclass(frozen=True)
class Report:
    """What came of a task, for the progress display. Nothing of it reaches the data."""

    reasons: Mapping[int, str] = field(default_factory=dict)
    """Why units failed, by unit."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What was made (``kept``, ``dropped``) and what it took (``retry_timeout``, ``recycled``)."""
    seconds: float = 0.0
    memory_mb: float = 0.0
    """Resident memory of the worker and its children at the end of the task."""
    worker: str = ""
    alive: int = 1
    """Workers at work; the executor fills it in."""

    @property
    def failed(self) -> int:
        return len(self.reasons)


class Job(Protocol):
    """A stage's work: opened once a worker, then performed task by task. Picklable."""

    @property
    def name(self) -> str: ...

    @property
    def uses_gpu(self) -> bool:
        """Whether a worker wants (a share of) a GPU where there is one."""
        ...

    def open(self, options: WorkerOptions) -> AbstractContextManager[Any]: ...

    def perform(self, opened: Any, task: Task) -> Report:
        """Make and write a task's rows."""
        ...

    def fail(self, task: Task, reason: str) -> Report:
        """Record that the worker died on this task."""
        ...


class Training(Protocol):
    """A training, run by one process or by several together. Picklable; resumes by itself."""

    @property
    def divides(self) -> int:
        """The number of processes must divide this."""
        ...

    @property
    def log(self) -> Path:
        """Where the first of several processes writes its lines."""
        ...

    def __call__(self, device: str, threads: int) -> None:
        """Train as one process: alone, or among those of ``torch.distributed``."""
        ...


class Executor(Protocol):
    """Decides where tasks are made and where training runs."""

    @property
    def settings(self) -> WorkerSettings: ...

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[tuple[Task, Report]]:
        """Perform all tasks, in any order; yield each with what came of it."""
        ...

    def train(self, training: Training) -> None:
        """Run a training to its end."""
        ...

    def close(self) -> None:
        """Give back what is held between runs."""
        ...

    def describe(self) -> str:
        """Return one phrase for the manifest and the log."""
        ...
