"""The one abstraction: a stage reads datasets and writes a dataset.

A stage is a frozen dataclass whose fields are everything that decides its bytes. Where and how
fast it is made is the executor's business and can never change what is in it.
"""

import dataclasses
import enum
import errno
import logging
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from datagen.engine.logs import log_folder, workspace_of
from datagen.engine.progress import Progress
from datagen.engine.provenance import provenance
from datagen.errors import ConfigError, DatagenError, DatasetError, StageError
from datagen.executors.job import Executor, Report, Task, WorkerOptions
from datagen.executors.memory import resident_tree_mb
from datagen.shards import Dataset, Failure, Folder, Identity, Output, Row, open_dataset
from datagen.shards.declared import INPUTS

logger = logging.getLogger(__name__)

Inputs = dict[str, Dataset]
"""The datasets that a stage reads, by folder name."""

Process = Callable[[int], list[Row]]
"""Makes the rows of one unit (a scene by ``layout_id``, or an object by its index)."""


NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Full, over quota, read-only: every row would fail."""
NOT_WRITABLE = NO_ROOM | {errno.EFBIG, errno.EACCES, errno.EPERM}
"""The same for writing: file too large, not ours."""


@dataclass(frozen=True)
class WorkerContext(WorkerOptions):
    """What a stage's worker is given, and where it notes what happened."""

    folder: Folder = field(kw_only=True)
    """The stage's own folder, for files beside the shards and for ``logs/``."""
    events: Counter[str] = field(default_factory=Counter, compare=False)
    """What a scene took (``retry_timeout``, ``recycled``); emptied into its task's report."""


@dataclass(frozen=True)
class RunOptions:
    """How a stage is run: nothing of it enters a fingerprint."""

    overwrite: bool = False
    """Delete what the stage's folder holds and make it again."""
    retry_failed: bool = False
    """Make the rows again that failed in an earlier run."""
    max_failed_fraction: float = 0.02
    """A run with a larger share of failed units ends with an error."""
    only: tuple[int, ...] = ()
    """Make only these scenes (again, if they failed) and say how each went."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Base of all stages: subclasses set the class variables, and give ``units`` and ``open``."""

    name: ClassVar[str]
    folder: ClassVar[str]
    revision: ClassVar[int]
    schema: ClassVar[pa.Schema]
    reads: ClassVar[tuple[str, ...]] = ()
    """Names of the input datasets' folders."""
    unit_column: ClassVar[str] = "layout_id"
    unit_noun: ClassVar[str] = "scenes"
    uses_gpu: ClassVar[bool] = False
    """True: a worker takes (a share of) a GPU where there is one."""
    keeps_parts: ClassVar[bool] = True
    """False: units are so cheap that a whole shard is made at once."""

    @property
    def shard_size(self) -> int:
        """Units a shard."""
        return int(getattr(self, "scenes_per_shard", 1000))

    def units(self, inputs: Inputs) -> Sequence[int]:
        """Return the ids of all units to make, in order."""
        raise NotImplementedError

    def open(self, inputs: Inputs, context: WorkerContext) -> AbstractContextManager[Process]:
        """Set up a worker and give its ``process`` function; tear down at the end."""
        raise NotImplementedError

    def input_names(self) -> tuple[str, ...]:
        """Return the folders that are read: ``reads``, less those that a field replaces."""
        return self.reads

    def identity(self, inputs: Inputs) -> Identity:
        """Return what decides the bytes: name, revision, fields and the inputs' fingerprints."""
        fields = stable_fields(self)
        fingerprints = {name: dataset.fingerprint for name, dataset in inputs.items()}
        return Identity(self.name, self.revision, fields, fingerprints)

    def command_for(self, input_name: str) -> str:
        """Return the command that makes an input, without ``--root``."""
        return f"datagen {INPUTS[input_name].verb}"

    def output(self, root: Folder, inputs: Inputs) -> Output:
        return Output(
            root / self.folder,
            self.identity(inputs),
            self.schema,
            self.shard_size,
            self.unit_column,
        )

    def summarise(self, output: Output) -> dict[str, Any]:
        """Return manifest entries taken from the finished shards; ``counts`` is in the funnel."""
        return {"counts": {}}

    def tally(self, rows: Sequence[Row]) -> dict[str, int]:
        """Count what the person who waits wants to see of one unit's rows."""
        return {}

    def run(self, root: Folder, executor: Executor, options: RunOptions) -> Dataset:
        """Make what is missing of the dataset and seal it; nothing if it is complete."""
        inputs = open_inputs(self, root)
        output = self.output(root, inputs)
        num_units = len(self.units(inputs))
        if options.overwrite:  # only now: a wrong field or checkpoint must not cost a dataset
            output.folder.delete_folder()
        sealed = output.sealed()
        if sealed is not None and sealed.manifest["failed"] and options.retry_failed:
            output.reopen_failed(sealed)
            sealed = None
        if sealed is None:
            with clear_end(output.folder):
                sealed = self._make(output, inputs, executor)
        else:
            logger.info(f"{self.name}: complete, reusing {sealed.folder}")
        check_failures(self, sealed, num_units, options)
        return sealed

    def run_only(self, root: Folder, executor: Executor, options: RunOptions) -> list[str]:
        """Make some units of the dataset, failed ones again, and say in words how each went.

        The dataset is sealed if that was all that it lacked, and stays sealed if it was.

        Raises:
            ConfigError: a unit is none of this stage's, or the stage makes whole shards at once.
        """
        inputs = open_inputs(self, root)
        output = self.output(root, inputs)
        units = self.units(inputs)
        if not self.keeps_parts:
            raise ConfigError(f"--only: {self.name} makes whole shards at once. Leave it out.")
        if foreign := sorted({*options.only} - {*units}):
            raise ConfigError(
                f"--only {foreign[0]}: no such {self.unit_column}. Expected some of the "
                f"{len(units)} from {units[0]} to {units[-1]}."
            )
        with clear_end(output.folder):
            sealed = output.sealed()
            if sealed is not None:
                failed = {item["unit"] for item in sealed.manifest["failed"]} & {*options.only}
                if not failed:
                    return [f"{unit}: there already" for unit in options.only]
                output.reopen_failed(sealed, failed)
            output.begin()
            output.forget_failed(options.only)
            return self._make_only(output, inputs, executor, options.only)

    def _make_only(
        self, output: Output, inputs: Inputs, executor: Executor, only: Sequence[int]
    ) -> list[str]:
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
        if not any(output.missing_units(units).values()):
            self._make(output, inputs, executor)
        return [f"{unit}: {word}" for unit, word in words.items()]

    def _make(self, output: Output, inputs: Inputs, executor: Executor) -> Dataset:
        units = self.units(inputs)
        if not units:
            raise StageError(
                f"{self.name}: nothing to do, its inputs have no {self.unit_noun}. Expected at "
                f"least one; see `datagen show` on {', '.join(self.reads) or 'the source'}."
            )
        started = time.monotonic()
        output.begin()
        log = log_folder(workspace_of(output.folder))
        if not output.folder.is_local:
            logger.info(f"{self.name}: {output.folder} is far away; logs go to {log}")
        with Progress(self.name, self.unit_noun, len(units), log) as progress:
            self._make_missing(output, inputs, executor, progress)
        seconds = time.monotonic() - started
        made_by = provenance(seconds, executor.describe(), executor.blender)
        made_by |= {"events": dict(progress.counts)}
        dataset = output.seal(self.summarise(output) | {"provenance": made_by})
        logger.info(f"{self.name}: {funnel(dataset)} → {dataset.folder}")
        return dataset

    def _make_missing(
        self, output: Output, inputs: Inputs, executor: Executor, progress: Progress
    ) -> None:
        """Make the units that are not there, and merge each shard's parts when it has all."""
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


@dataclass(frozen=True)
class StageJob:
    """What an executor carries to its workers: opens the stage there and performs tasks."""

    stage: Stage
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
        """Make and write a task's rows; say which of its units failed and what it took."""
        process, context = opened
        started = time.monotonic()
        rows: list[Row] = []
        failures: list[Failure] = []
        for unit in task.units:
            made, failure = self._make_unit(process, unit)
            if self.stage.keeps_parts:
                with clear_end(self.output.folder):
                    self.output.write_part(unit, made, failure)
            rows += made
            failures += [failure] if failure else []
        if not self.stage.keeps_parts:
            with clear_end(self.output.folder):
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
        """Record that a task's units failed outside ``perform`` (its worker died)."""
        failures = [Failure(unit, reason) for unit in task.units]
        if self.stage.keeps_parts:
            for failure in failures:
                self.output.write_part(failure.unit, [], failure)
        else:
            self.output.write_shard(task.shard, [], failures)
        return Report(reasons={failure.unit: failure.reason for failure in failures})

    def _make_unit(self, process: Process, unit: int) -> tuple[list[Row], Failure | None]:
        try:
            with clear_end(self.output.folder, NO_ROOM):
                return process(unit), None
        except DatagenError:
            raise
        except Exception as error:  # noqa: BLE001  one bad row must not end the run
            return [], Failure(unit, str(error) or type(error).__name__, traceback.format_exc())


@contextmanager
def clear_end(folder: Folder, numbers: Container[int] = NOT_WRITABLE) -> Iterator[None]:
    """Turn "no room" and "not allowed" into an error that says so: it is no row's fault."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise
        raise StageError(
            f"{folder}: cannot write ({error}). Expected a folder with room that may be written; "
            "mend that and run the same command again, it goes on where it stopped."
        ) from error


def open_inputs(stage: Stage, root: Folder) -> Inputs:
    """Open a stage's input datasets.

    Raises:
        DatasetError: one is missing; the message names the command that makes it.
    """
    inputs = {}
    for name in stage.input_names():
        folder = root / name
        if not folder.exists("manifest.json"):
            raise DatasetError(
                f"{stage.name}: {folder} is missing or unfinished, and it is needed here. "
                f"Run `{stage.command_for(name)} --root {root}` first."
            )
        inputs[name] = open_dataset(folder)
    return inputs


def check_failures(stage: Stage, dataset: Dataset, num_units: int, options: RunOptions) -> None:
    """Report failed units; too many are an error."""
    failed = dataset.manifest["failed"]
    if not failed:
        return
    first = failed[0]
    words = (
        f"{stage.name}: {len(failed)} of {num_units} {stage.unit_noun} failed "
        f"(first: {stage.unit_column} {first['unit']}: {first['reason']}). "
        f"--retry-failed makes them again; `datagen show {dataset.folder}` lists them."
    )
    if len(failed) > options.max_failed_fraction * num_units:
        raise StageError(f"{words} At most {options.max_failed_fraction:.0%} may fail.")
    logger.warning(words)


def funnel(dataset: Dataset) -> str:
    """Return a dataset's counts in one phrase."""
    manifest = dataset.manifest
    words = [f"{manifest['rows']} rows"] if manifest["shards"] else []
    words += [f"{count} {name.replace('_', ' ')}" for name, count in manifest["counts"].items()]
    words.append(f"{len(manifest['failed'])} failed")
    return ", ".join(words)


def units_by_shard(units: Sequence[int], shard_size: int) -> dict[int, list[int]]:
    """Return the units of every shard, in order."""
    members: dict[int, list[int]] = {}
    for unit in units:
        members.setdefault(unit // shard_size, []).append(unit)
    return members


def stable_fields(config: Any) -> dict[str, Any]:
    """Return a dataclass's fields by name, those of nested dataclasses among them, as JSON data."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if not f.metadata.get("identity", True):
            continue
        nested = dataclasses.is_dataclass(value)
        new = stable_fields(value) if nested else {f.name: stable_value(value)}
        assert not found.keys() & new.keys(), (found.keys(), new.keys())
        found |= new
    return found


def stable_value(value: Any) -> Any:
    """Return a field's value as JSON data with one stable spelling.

    Raises:
        ConfigError: the value has none.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [stable_value(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    raise ConfigError(
        f"cannot fingerprint a {type(value).__qualname__} ({value!r}): it has no stable spelling. "
        "Use a number, string, tuple, Path, Enum, or frozen dataclass in stage fields."
    )
