"""What stages and executors say to each other."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """Units of one shard that are made together."""

    shard: int
    units: tuple[int, ...]


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is given: never anything that changes the bytes."""

    threads: int
    device: str
    name: str
    """Distinguishes the log files of workers."""
    recycle_scenes: int = 0
    """Start a fresh Blender after so many scenes; 0: never."""
    recycle_growth_mb: float = 0.0
    """Start a fresh Blender when it has grown by so much; 0: never."""
    blender: str | None = None
    """A Blender executable or a Python with bpy; None: see BlenderProcess."""


@dataclass(frozen=True)
class Report:
    """What came of a task, for the person who waits. Nothing of it reaches the data."""

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


class Executor(Protocol):
    """Decides where tasks are made."""

    @property
    def blender(self) -> str | None:
        """What ``--blender`` names."""
        ...

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[tuple[Task, Report]]:
        """Perform all tasks, in any order; yield each with what came of it."""
        ...

    def close(self) -> None:
        """Give back what is held between runs."""
        ...

    def describe(self) -> str:
        """Return one phrase for the manifest and the log."""
        ...
