"""``datagen plan VERB``: estimates rows, bytes and hours of a stage from a few test units."""

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from datagen.engine.stage import Stage, open_inputs
from datagen.engine.units import StageJob, UnitStage
from datagen.errors import ConfigError
from datagen.executors.job import Task, WorkerOptions, WorkerSettings
from datagen.executors.local import available_cores
from datagen.shards import Folder


@dataclass(frozen=True)
class Plan:
    """The size and duration of a stage's full run, extrapolated from a sample of units."""

    verb: str
    unit_noun: str
    num_units: int
    num_sampled: int
    num_failed: int
    rows_per_unit: float
    rows_per_unit_error: float
    """Standard error of ``rows_per_unit``."""
    bytes_per_unit: float
    seconds_per_unit: float
    start_s: float
    """Seconds until a worker has made its first unit."""
    num_workers: int

    def __str__(self) -> str:
        rows, bytes_ = self.num_units * self.rows_per_unit, self.num_units * self.bytes_per_unit
        seconds = self.start_s + self.num_units * self.seconds_per_unit / self.num_workers
        failed = f", {self.num_failed} of them failed" if self.num_failed else ""
        return (
            f"{self.verb}: {self.num_units} {self.unit_noun} → about {rows:,.0f} rows "
            f"(± {self.num_units * self.rows_per_unit_error:,.0f}), {_size(bytes_)}, "
            f"{_duration(seconds)} on {self.num_workers} worker(s)\n"
            f"measured on {self.num_sampled} {self.unit_noun}{failed}: "
            f"{self.rows_per_unit:.1f} rows, {_size(self.bytes_per_unit)} and "
            f"{self.seconds_per_unit:.2f} s each; a worker starts in {self.start_s:.1f} s"
        )


def plan_stage(
    stage: Stage,
    root: Folder,
    *,
    num_workers: int,
    settings: WorkerSettings,
    num_samples: int = 4,
) -> Plan:
    """Return the plan of a stage, measured on evenly spaced units in a temporary folder.

    One worker is measured, with the threads that it would have among ``num_workers`` workers.

    Args:
        stage: the stage to run.
        root: the workspace with its inputs.
        num_workers: workers of the full run.
        settings: of the workers.
        num_samples: units that are measured.

    Raises:
        ConfigError: the stage is not made unit by unit (``train``, ``layouts``).
        DatasetError: an input is missing.
    """
    if not isinstance(stage, UnitStage) or not stage.keeps_parts:
        raise ConfigError(
            f"plan: {stage.name} cannot be measured, because it is not made unit by unit. Expected "
            "assets, render, encode, infer or evaluate."
        )
    inputs = open_inputs(stage, root)
    units = list(stage.units(inputs))
    count = min(num_samples, len(units))
    # The first unit fills caches and compiles code; its time counts as start time.
    first, *chosen = [units[round(i)] for i in np.linspace(0, len(units) - 1, count + 1)]
    with tempfile.TemporaryDirectory(prefix="datagen-plan-") as folder:
        output = stage.output(Folder.at(folder), inputs)
        output.begin()
        job = StageJob(stage, inputs, output)
        threads = max(1, available_cores() // num_workers)
        options = WorkerOptions(settings, threads, "plan")
        started = time.monotonic()
        with job.open(options) as opened:
            job.perform(opened, Task(first // stage.shard_size, (first,)))
            start_s = time.monotonic() - started
            started, bytes_before = time.monotonic(), _bytes_in(Path(folder))
            rows_before = _rows_in(Path(folder))
            failed, rows = 0, list[int]()
            for unit in chosen:
                failed += job.perform(opened, Task(unit // stage.shard_size, (unit,))).failed
                rows.append(_rows_in(Path(folder)) - rows_before - sum(rows))
            seconds = time.monotonic() - started
        written = _bytes_in(Path(folder)) - bytes_before
    return Plan(
        verb=stage.name,
        unit_noun=stage.unit_noun,
        num_units=len(units),
        num_sampled=count,
        num_failed=failed,
        rows_per_unit=float(np.mean(rows)),
        rows_per_unit_error=float(np.std(rows) / math.sqrt(len(rows))),
        bytes_per_unit=written / count,
        seconds_per_unit=seconds / count,
        start_s=start_s,
        num_workers=num_workers,
    )


def _rows_in(folder: Path) -> int:
    """Return the number of rows of all parts under a folder."""
    return sum(pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet"))


def _bytes_in(folder: Path) -> int:
    """Return the bytes of all files under a folder, without logs."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return sum(path.stat().st_size for path in files)


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.2f} TB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"
