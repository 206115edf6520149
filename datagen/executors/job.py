"""What stages and executors say to each other."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """Units of one shard that are made together."""

    shard: int
    units: tuple[int, ...]


class Job(Protocol):
    """A stage's work: opened once a worker, then performed task by task. Picklable."""

    @property
    def name(self) -> str: ...

    def open(self, threads: int, device: str, name: str) -> AbstractContextManager[Any]: ...

    def perform(self, process: Any, task: Task) -> int:
        """Make and write a task's rows; return the number of failed units."""
        ...

    def fail(self, task: Task, reason: str) -> None:
        """Record that the worker died on this task."""
        ...


class Executor(Protocol):
    """Decides where tasks are made."""

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[tuple[Task, int]]:
        """Perform all tasks, in any order; yield each with its number of failed units."""
        ...

    def close(self) -> None:
        """Give back what is held between runs."""
        ...

    def describe(self) -> str:
        """Return one phrase for the manifest and the log."""
        ...
