"""Progress of a stage: the bar on a terminal, the log line, the JSON lines, the worst units."""

import io
import json
import logging
import sys

import pytest

from datagen.engine import progress as module
from datagen.engine.progress import Progress
from datagen.executors.job import Report, Task


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it: ``clock[0]`` is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def lines_of(folder):
    return [json.loads(line) for line in (folder / "render.jsonl").read_text().splitlines()]


def test_terminal_shows_the_state_beside_a_bar(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with Progress("render", "layouts", 4, tmp_path) as progress:
        progress.start(4)
        progress.advance(Task(0, (0, 1)), Report(alive=3))
    assert "━" in terminal.getvalue()
    assert "render: 2 of 4 layouts" in terminal.getvalue()
    assert "3 workers" in terminal.getvalue()


def test_log_has_a_line_at_most_every_ten_seconds(tmp_path, clock, caplog):
    with caplog.at_level(logging.INFO), Progress("render", "layouts", 10, tmp_path) as progress:
        progress.start(8)
        for unit in range(4):
            clock[0] += 6.0
            counts = {"kept": 3, "dropped": 1, "retry_timeout": 1}
            progress.advance(Task(0, (unit,)), Report(counts=counts, memory_mb=512.0))
    assert caplog.messages == [
        "render: resuming, 2 of 10 layouts exist",
        "render: 2 of 8 layouts, 0.167 layouts/s, 0.667 views/s, 6 kept, 2 dropped, 0 failed, "
        "2 tried again, 36 s left, 1 worker, 0.5 GB",
        "render: 4 of 8 layouts, 0.167 layouts/s, 0.667 views/s, 12 kept, 4 dropped, 0 failed, "
        "4 tried again, 24 s left, 1 worker, 0.5 GB",
    ]
    events = [line["event"] for line in lines_of(tmp_path)]
    assert events == ["done", "done", "state", "done", "done", "state", "end"]


def test_json_lines_hold_each_task_and_whether_the_run_was_whole(tmp_path):
    with pytest.raises(KeyboardInterrupt), Progress("render", "layouts", 3, tmp_path) as progress:
        progress.start(3)
        report = Report(reasons={1: "boom"}, counts={"kept": 2}, seconds=1.5, worker="w0")
        progress.advance(Task(0, (0, 1, 2)), report)
        raise KeyboardInterrupt
    done, end = lines_of(tmp_path)
    assert done["units"] == [0, "…", 2]
    assert done["failed"] == {"1": "boom"}
    assert (done["counts"], done["seconds"], done["worker"]) == ({"kept": 2}, 1.5, "w0")
    assert (end["event"], end["complete"], end["done"], end["failed"]) == ("end", False, 3, 1)


def test_worst_units_are_logged_at_the_end_failures_first(tmp_path, clock, caplog):
    with caplog.at_level(logging.INFO), Progress("render", "layouts", 12, tmp_path) as progress:
        progress.start(12)
        for unit in range(12):
            reasons = {unit: "boom"} if unit == 5 else {}
            counts = {"kept": 1, "dropped": int(unit == 7), "on_cpu": 1}
            progress.advance(Task(0, (unit,)), Report(reasons, counts, seconds=float(unit)))
    worst = [line for line in caplog.messages if "among the worst" in line]
    assert len(worst) == 10
    assert worst[:3] == [
        "render: among the worst: 5: 5.0 s, 1 kept",
        "render: among the worst: 7: 7.0 s, 1 kept, 1 dropped",
        "render: among the worst: 11: 11.0 s, 1 kept",
    ]
