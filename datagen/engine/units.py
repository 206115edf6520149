"""Stages whose dataset is made unit by unit, for example scene by scene.

A unit that fails is listed under ``failed`` in the manifest, and the run continues. Finished units
are stored as parts until their shard is complete, so that a killed run loses only the units that
were being made.
"""

import logging
import os
import time
import traceback
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from datagen.engine.logs import log_folder, workspace_of
from datagen.engine.progress import Progress
from datagen.engine.provenance import provenance
from datagen.engine.stage import (
    NO_ROOM,
    Inputs,
    RunOptions,
    Stage,
    explain_write_errors,
    funnel,
    open_inputs,
)
from datagen.errors import ConfigError, DatagenError, StageError
from datagen.executors.job import Executor, Report, Task, WorkerOptions
from datagen.executors.memory import resident_tree_mb
from datagen.shards import Dataset, Failure, Folder, Output, Row
from datagen.shards.dataset import units_by_shard

logger = logging.getLogger(__name__)

Process = Callable[[int], list[Row]]
"""Returns the rows of one unit: of a scene by its ``layout_id``, or an object by its index."""


@dataclass(frozen=True)
class WorkerContext(WorkerOptions):
    """The settings of a stage's worker, and the events that it counts."""

    folder: Folder = field(kw_only=True)
    """The stage's folder, for files beside the shards and for ``logs/``."""
    events: Counter[str] = field(default_factory=Counter, compare=False)
    """Events of the current task (``retry_timeout``, ``recycled``); moved into its report."""


@dataclass(frozen=True, kw_only=True)
class UnitStage(Stage):
    """Base of stages that make units. Subclasses implement ``units`` and ``open``."""

    unit_column: ClassVar[str] = "layout_id"
    unit_noun: ClassVar[str] = "scenes"
    keeps_parts: ClassVar[bool] = True
    """False if a whole shard is made at once, because units are cheap."""

    @property
    def shard_size(self) -> int:
        """Units per shard."""
        return int(getattr(self, "scenes_per_shard", 1000))

    @abstractmethod
    def units(self, inputs: Inputs) -> Sequence[int]:
        """Return the ids of all units to make, in order."""

    @abstractmethod
    def open(self, inputs: Inputs, context: WorkerContext) -> AbstractContextManager[Process]:
        """Set up a worker, provide its ``process`` function, and clean up at the end."""

    def output(self, root: Folder, inputs: Inputs) -> Output:
        """Return the folder of a workspace that this stage writes, with shards cut by unit."""
        return Output(
            root / self.table.folder,
            self.identity(inputs),
            self.table.schema,
            self.shard_size,
            self.unit_column,
        )

    def summarise(self, output: Output) -> dict[str, Any]:
        """Return manifest entries computed from the shards; ``counts`` is printed at the end."""
        return {"counts": {}}

    def tally(self, rows: Sequence[Row]) -> dict[str, int]:
        """Return counts of a task's rows for the progress display."""
        return {}

    def check(self, inputs: Inputs) -> None:
        """Check that there is something to make.

        Raises:
            StageError: the inputs have no units.
        """
        if not self.units(inputs):
            raise StageError(
                f"{self.name}: its inputs have no {self.unit_noun}. Expected at least one; see "
                f"`datagen show` on {', '.join(self.input_names()) or 'the source'}."
            )

    def check_result(self, dataset: Dataset, inputs: Inputs, options: RunOptions) -> None:
        """Report failed units.

        Raises:
            StageError: more units failed than ``max_failed_fraction`` allows.
        """
        failed = dataset.manifest["failed"]
        if not failed:
            return
        num_units = len(self.units(inputs))
        first = failed[0]
        words = (
            f"{self.name}: {len(failed)} of {num_units} {self.unit_noun} failed "
            f"(first: {self.unit_column} {first['unit']}: {first['reason']}). "
            f"--retry-failed retries them; `datagen show {dataset.folder}` lists them."
        )
        if len(failed) > options.max_failed_fraction * num_units:
            raise StageError(f"{words} At most {options.max_failed_fraction:.0%} may fail.")
        logger.warning(words)

    def make(self, inputs: Inputs, output: Output, executor: Executor) -> Dataset:
        """Make the missing units, merge them into shards, and return the sealed dataset."""
        started = time.monotonic()
        output.begin()
        log = log_folder(workspace_of(output.folder))
        if not output.folder.is_local:
            logger.info(f"{self.name}: {output.folder} is remote storage; logs go to {log}")
        with Progress(self.name, self.unit_noun, len(self.units(inputs)), log) as progress:
            self._make_missing(inputs, output, executor, progress)
        seconds = time.monotonic() - started
        made_by = provenance(seconds, executor.describe(), executor.settings.blender)
        made_by |= {"events": dict(progress.counts)}
        dataset = output.seal(self.summarise(output) | {"provenance": made_by})
        logger.info(f"{self.name}: {funnel(dataset)} → {dataset.folder}")
        return dataset

    def run_only(
        self, root: Folder, executor: Executor, options: RunOptions
    ) -> tuple[list[str], Dataset | None]:
        """Make the units in ``options.only``, failed ones again.

        Returns:
            One line about each unit; the dataset if it is sealed afterwards, which it is as soon
            as no unit is missing.

        Raises:
            ConfigError: the stage has no such unit, or makes whole shards at once.
        """
        require_parts(self)
        inputs = open_inputs(self, root)
        self.check(inputs)
        output = self.output(root, inputs)
        units = self.units(inputs)
        if foreign := sorted({*options.only} - {*units}):
            raise ConfigError(
                f"--only {foreign[0]}: no such {self.unit_column}. Expected some of the "
                f"{len(units)} from {units[0]} to {units[-1]}."
            )
        with explain_write_errors(output.folder):
            sealed = output.sealed()
            if sealed is not None:
                failed = {item["unit"] for item in sealed.manifest["failed"]} & {*options.only}
                if not failed:
                    return [f"{unit}: there already" for unit in options.only], sealed
                output.reopen_failed(sealed, failed)
            output.begin()
            output.forget_failed(options.only)
            return self._make_only(inputs, output, executor, options.only)

    def _make_only(
        self, inputs: Inputs, output: Output, executor: Executor, only: Sequence[int]
    ) -> tuple[list[str], Dataset | None]:
        units = self.units(inputs)
        todo = {
            shard: [unit for unit in missing if unit in only]
            for shard, missing in output.missing_units(units).items()
        }
        words = dict.fromkeys(only, "there already")
        job = StageJob(self, inputs, output)
        for task, report in executor.run(job, self._tasks(todo)):
            for unit in task.units:
                counts = ", ".join(f"{n} {name}" for name, n in report.counts.items())
                reason = report.reasons.get(unit)
                made = f"made in {report.seconds:.1f} s" + (f" ({counts})" if counts else "")
                words[unit] = made if reason is None else f"failed: {reason}"
        is_whole = not any(output.missing_units(units).values())
        dataset = self.make(inputs, output, executor) if is_whole else None
        return [f"{unit}: {word}" for unit, word in words.items()], dataset

    def _make_missing(
        self, inputs: Inputs, output: Output, executor: Executor, progress: Progress
    ) -> None:
        """Make the missing units, and merge the parts of each shard when it is complete."""
        units = self.units(inputs)
        missing = output.missing_units(units)
        members = units_by_shard(units, self.shard_size)
        for shard in sorted(missing):
            if self.keeps_parts and not missing[shard]:
                output.merge_parts(shard, members[shard])
        waiting = {shard: len(todo) for shard, todo in missing.items() if todo}
        tasks = self._tasks({shard: missing[shard] for shard in waiting})
        progress.start(sum(waiting.values()))
        for task, report in executor.run(StageJob(self, inputs, output), tasks):
            progress.advance(task, report)
            waiting[task.shard] -= len(task.units)
            if self.keeps_parts and waiting[task.shard] == 0:
                output.merge_parts(task.shard, members[task.shard])

    def _tasks(self, missing: dict[int, list[int]]) -> list[Task]:
        if self.keeps_parts:
            return [Task(shard, (unit,)) for shard in sorted(missing) for unit in missing[shard]]
        return [Task(shard, tuple(missing[shard])) for shard in sorted(missing)]


def require_parts(stage: Stage) -> UnitStage:
    """Return a stage whose units can be made one by one.

    Raises:
        ConfigError: ``--only`` was given, and this stage makes no units or whole shards at once.
    """
    if not isinstance(stage, UnitStage):
        raise ConfigError(f"--only: {stage.name} is not made unit by unit. Leave --only out.")
    if not stage.keeps_parts:
        raise ConfigError(f"--only: {stage.name} makes whole shards at once. Leave --only out.")
    return stage


@dataclass(frozen=True)
class StageJob:
    """The job that an executor sends to its workers: it opens the stage and performs tasks."""

    stage: UnitStage
    inputs: Inputs
    output: Output

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def uses_gpu(self) -> bool:
        return self.stage.uses_gpu

    @contextmanager
    def open(self, options: WorkerOptions) -> Iterator[tuple[Process, WorkerContext]]:
        context = WorkerContext(**vars(options), folder=self.output.folder)
        with self.stage.open(self.inputs, context) as process:
            yield process, context

    def perform(self, opened: tuple[Process, WorkerContext], task: Task) -> Report:
        """Make and write a task's rows; return failures, counts, time and memory."""
        process, context = opened
        started = time.monotonic()
        rows: list[Row] = []
        failures: list[Failure] = []
        for unit in task.units:
            made, failure = self._make_unit(process, unit)
            if self.stage.keeps_parts:
                with explain_write_errors(self.output.folder):
                    self.output.write_part(unit, made, failure)
            rows += made
            failures += [failure] if failure else []
        if not self.stage.keeps_parts:
            with explain_write_errors(self.output.folder):
                self.output.write_shard(task.shard, rows, failures)
        counts = self.stage.tally(rows) | dict(context.events)
        context.events.clear()
        return Report(
            reasons={failure.unit: failure.reason for failure in failures},
            counts=counts,
            seconds=time.monotonic() - started,
            memory_mb=resident_tree_mb(os.getpid()),
            worker=context.name,
        )

    def fail(self, task: Task, reason: str) -> Report:
        """Record a task's units as failed because its worker died; return the report."""
        failures = [Failure(unit, reason) for unit in task.units]
        if self.stage.keeps_parts:
            for failure in failures:
                self.output.write_part(failure.unit, [], failure)
        else:
            self.output.write_shard(task.shard, [], failures)
        return Report(reasons={failure.unit: failure.reason for failure in failures})

    def _make_unit(self, process: Process, unit: int) -> tuple[list[Row], Failure | None]:
        try:
            with explain_write_errors(self.output.folder, NO_ROOM):
                return process(unit), None
        except DatagenError:
            raise
        except Exception as error:  # noqa: BLE001  one bad row must not end the run
            return [], Failure(unit, str(error) or type(error).__name__, traceback.format_exc())
