"""Progress of a stage: a bar on a terminal, or a log line at most every ten seconds.

Every finished task is also a JSON line in the workspace's ``logs/<stage>.jsonl``. At the end, the
units that failed, were retried, lost views or took longest are logged.
"""

import heapq
import json
import logging
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBar
from rich.table import Column

from datagen.executors.job import Report, Task

logger = logging.getLogger(__name__)

INTERVAL_S = 10.0
"""Shortest time between two log lines."""

NUM_WORST_UNITS = 10
"""Number of worst units that are logged at the end."""

RETRY = "retry_"
"""Prefix of the events that count repeated attempts."""


class Progress:
    """The finished units of a running stage, counted and displayed.

    Used as a context manager around the run.
    """

    def __init__(self, stage: str, noun: str, total: int, log: Path) -> None:
        """Count from zero.

        Args:
            stage: its name.
            noun: what its units are called, in the plural.
            total: units of the whole dataset, including those that exist already.
            log: the folder of the JSON lines.
        """
        self.stage, self.noun, self.total = stage, noun, total
        self.todo = self.done = self.failed = 0
        self.counts: Counter[str] = Counter()
        self._started = self._last = time.monotonic()
        self._worst: list[tuple[tuple[float, ...], int, str]] = []
        self._memory: dict[str, float] = {}
        self._log = log / f"{stage}.jsonl"
        self._bar = ProgressBar(
            BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False)),
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=2,
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self.done:
            self._write({"event": "end", "complete": kind is None} | self.snapshot())
            self._log_worst()

    def start(self, todo: int) -> None:
        """Start the clock, with this many units to make."""
        self.todo = todo
        self._started = self._last = time.monotonic()
        self._bar.add_task(self.stage, total=todo)
        if 0 < todo < self.total:
            existing = self.total - todo
            logger.info(f"{self.stage}: resuming, {existing} of {self.total} {self.noun} exist")

    def advance(self, task: Task, report: Report) -> None:
        """Count a finished task, write its JSON line, and update the display."""
        self.done += len(task.units)
        self.failed += report.failed
        self.counts.update(report.counts)
        self._memory[report.worker] = report.memory_mb
        for unit, reason in report.reasons.items():
            logger.warning(f"{self.stage}: {unit} failed: {reason}")
        self._remember(task, report)
        self._write({"event": "done", **_fields(task, report)})
        self._show(report.alive)

    def snapshot(self) -> dict[str, Any]:
        """Return the counts, rates (per second) and memory (MB) so far, as plain JSON data."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        views = self.counts["kept"] + self.counts["dropped"]
        return {
            "done": self.done,
            "todo": self.todo,
            "failed": self.failed,
            "counts": dict(self.counts),
            "seconds": round(seconds, 3),
            "per_s": self.done / seconds,
            "views_per_s": views / seconds,
            "memory_mb": round(sum(self._memory.values()), 1),
        }

    def line(self, alive: int = 1) -> str:
        """Return the counts, rates and remaining time in one line.

        Args:
            alive: workers that are running.
        """
        state = self.snapshot()
        words = [f"{self.done} of {self.todo} {self.noun}", f"{state['per_s']:.3g} {self.noun}/s"]
        if state["views_per_s"]:
            words.append(f"{state['views_per_s']:.3g} views/s")
            words.append(f"{self.counts['kept']} kept, {self.counts['dropped']} dropped")
        words.append(f"{self.failed} failed")
        if retries := sum(n for name, n in self.counts.items() if name.startswith(RETRY)):
            words.append(f"{retries} tried again")
        words.append(f"{duration((self.todo - self.done) / state['per_s'])} left")
        words.append(f"{alive} worker{'s' if alive != 1 else ''}")
        if state["memory_mb"]:
            words.append(f"{state['memory_mb'] / 1024:.1f} GB")
        return f"{self.stage}: {', '.join(words)}"

    def _show(self, alive: int) -> None:
        if not self._bar.disable:
            [task] = self._bar.task_ids
            self._bar.update(task, completed=self.done, description=self.line(alive))
            return
        now = time.monotonic()
        if now - self._last >= INTERVAL_S:
            self._last = now
            logger.info(self.line(alive))
            self._write({"event": "state", "alive": alive} | self.snapshot())

    def _remember(self, task: Task, report: Report) -> None:
        retries = sum(n for name, n in report.counts.items() if name.startswith(RETRY))
        dropped = report.counts.get("dropped", 0)
        if not report.counts:  # the stage has no events, so its units are not ranked
            return
        words = [f"{report.seconds:.1f} s"]
        # The device (on_cpu, on_optix) is the same for all units; leaving the GPU is counted as a
        # fallback.
        counts = {name: n for name, n in report.counts.items() if n and not name.startswith("on_")}
        words += [f"{n} {name.replace('_', ' ')}" for name, n in counts.items()]
        rank = (report.failed, retries, dropped, report.seconds)
        self._worst.append((rank, task.units[0], ", ".join(words)))
        self._worst = heapq.nlargest(NUM_WORST_UNITS, self._worst)

    def _log_worst(self) -> None:
        if self.done <= NUM_WORST_UNITS:
            return
        for _, unit, words in self._worst:
            logger.info(f"{self.stage}: among the worst: {unit}: {words}")

    def _write(self, event: dict[str, Any]) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._log.open("a") as file:
            file.write(json.dumps({"time": now, **event}) + "\n")


def _fields(task: Task, report: Report) -> dict[str, Any]:
    return {
        "units": task.units if len(task.units) == 1 else [task.units[0], "…", task.units[-1]],
        "seconds": round(report.seconds, 3),
        "counts": dict(report.counts),
        "failed": {str(unit): reason for unit, reason in report.reasons.items()},
        "memory_mb": round(report.memory_mb, 1),
        "worker": report.worker,
        "alive": report.alive,
    }


def duration(seconds: float) -> str:
    """Return a duration in words: seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
