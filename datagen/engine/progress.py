"""For the person who waits: how far a stage is, and at its end which units were the worst.

On a terminal one line is kept up to date; elsewhere a log line is written at most every ten
seconds. Every unit is also a JSON line in the workspace's ``logs/<stage>.jsonl``.
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
from rich.live import Live
from rich.text import Text

from datagen.executors.job import Report, Task

logger = logging.getLogger(__name__)

INTERVAL_S = 10.0
NUM_WORST = 10
RETRY = "retry_"
"""Events with this prefix are further attempts."""


class Progress:
    """Counts finished units and says how far a stage is.

    Args:
        stage: its name.
        noun: what its units are called.
        total: units of the whole dataset.
        log: the folder of the JSON lines.
    """

    def __init__(self, stage: str, noun: str, total: int, log: Path) -> None:
        self.stage, self.noun, self.total = stage, noun, total
        self.todo = self.done = self.failed = 0
        self.counts: Counter[str] = Counter()
        self._started = self._last = time.monotonic()
        self._worst: list[tuple[tuple[float, ...], int, str]] = []
        self._memory: dict[str, float] = {}
        self._log = log / f"{stage}.jsonl"
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._live = Live(console=Console(stderr=True), transient=True, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self.done:
            self._write({"event": "end", "complete": kind is None} | self.snapshot())
            self._tell_worst()

    def start(self, todo: int) -> None:
        """Say how many units are still to make."""
        self.todo = todo
        self._started = self._last = time.monotonic()
        if 0 < todo < self.total:
            there = self.total - todo
            logger.info(f"{self.stage}: going on, {there} of {self.total} {self.noun} are there")

    def advance(self, task: Task, report: Report) -> None:
        """Take note of a finished task."""
        self.done += len(task.units)
        self.failed += report.failed
        self.counts.update(report.counts)
        self._memory[report.worker] = report.memory_mb
        for unit, reason in report.reasons.items():
            logger.warning(f"{self.stage}: {unit} failed: {reason}")
        self._remember(task, report)
        self._write({"event": "done", **_fields(task, report)})
        self._tell(report.alive)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain JSON data."""
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
        """Return the state in one line."""
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

    def _tell(self, alive: int) -> None:
        if self._live is not None:
            self._live.update(Text(self.line(alive)))
            return
        now = time.monotonic()
        if now - self._last >= INTERVAL_S:
            self._last = now
            logger.info(self.line(alive))
            self._write({"event": "state", "alive": alive} | self.snapshot())

    def _remember(self, task: Task, report: Report) -> None:
        retries = sum(n for name, n in report.counts.items() if name.startswith(RETRY))
        dropped = report.counts.get("dropped", 0)
        if not report.counts:  # a stage whose units are all alike
            return
        words = [f"{report.seconds:.1f} s"]
        # Where it ran (on_cpu, on_optix) is alike for all; one that had to leave the GPU says so
        # as a fallback.
        counts = {name: n for name, n in report.counts.items() if n and not name.startswith("on_")}
        words += [f"{n} {name.replace('_', ' ')}" for name, n in counts.items()]
        rank = (report.failed, retries, dropped, report.seconds)
        self._worst.append((rank, task.units[0], ", ".join(words)))
        self._worst = heapq.nlargest(NUM_WORST, self._worst)

    def _tell_worst(self) -> None:
        if self.done <= NUM_WORST:
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
    """Return a duration in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
