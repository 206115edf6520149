"""The one abstraction: a stage reads datasets and writes a dataset.

A stage is a frozen dataclass whose fields are everything that decides its bytes. Where and how
fast it is made is the executor's business and can never change what is in it. Most stages make
their dataset unit by unit: see ``UnitStage``.
"""

import errno
import logging
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, final

from datagen.core.fields import content_fingerprints, deciding_fields
from datagen.errors import StageError
from datagen.executors.job import Executor
from datagen.shards import Dataset, Folder, Identity, Output
from datagen.shards.tables import Table, by_folder
from datagen.shards.workspace import Workspace

logger = logging.getLogger(__name__)

Inputs = dict[str, Dataset]
"""The datasets that a stage reads, by folder name."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Full, over quota, read-only: every row would fail."""
NOT_WRITABLE = NO_ROOM | {errno.EFBIG, errno.EACCES, errno.EPERM}
"""The same for writing: file too large, not ours."""


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
    """Make only these scenes (again, if they failed) and report how each went."""


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """Base of all stages: fields, the identity that they decide, and ``make``."""

    name: ClassVar[str]
    table: ClassVar[Table]
    """Its dataset: folder, verb, and the columns of its rows."""
    revision: ClassVar[int]
    reads: ClassVar[tuple[Table, ...]] = ()
    """Tables of the input datasets."""
    uses_gpu: ClassVar[bool] = False
    """True: a worker takes (a share of) a GPU where there is one."""

    @abstractmethod
    def make(self, inputs: Inputs, output: Output, executor: Executor) -> Dataset:
        """Make what is missing of the dataset, and seal it."""

    @abstractmethod
    def output(self, root: Folder, inputs: Inputs) -> Output:
        """Return the folder in a workspace that this stage writes."""

    def input_names(self) -> tuple[str, ...]:
        """Return the folders that are read: ``reads``, less those that a field replaces."""
        return tuple(table.folder for table in self.reads)

    def command_for(self, input_name: str) -> str:
        """Return the command that makes an input, without ``--root``."""
        return f"datagen {by_folder(self.reads)[input_name].verb}"

    def check(self, inputs: Inputs) -> None:
        """Check that the fields fit the inputs, before anything is written or deleted.

        Raises:
            ConfigError: they do not.
        """

    def check_result(self, dataset: Dataset, inputs: Inputs, options: RunOptions) -> None:
        """Check what was made.

        Raises:
            StageError: it is not what was asked for.
        """

    def is_complete(self, dataset: Dataset) -> bool:
        """Return whether the dataset answers all that was asked; else the exit code is 1."""
        return True

    @final
    def identity(self, inputs: Inputs) -> Identity:
        """Return what decides the bytes: name, revision, fields, and fingerprints of what is read.

        Which fields take part, and how, stands on each field: see ``datagen.core.fields``.
        """
        fingerprints = {name: dataset.fingerprint for name, dataset in inputs.items()}
        fingerprints |= content_fingerprints(self)
        return Identity(self.name, self.revision, deciding_fields(self), fingerprints)

    def run(self, root: Folder, executor: Executor, options: RunOptions) -> Dataset:
        """Make what is missing of the dataset and seal it; nothing if it is complete."""
        inputs = open_inputs(self, root)
        self.check(inputs)
        output = self.output(root, inputs)
        if options.overwrite:  # only now: a wrong field or checkpoint must not cost a dataset
            output.folder.delete_folder()
        sealed = output.sealed()
        if sealed is not None and sealed.manifest["failed"] and options.retry_failed:
            output.reopen_failed(sealed)
            sealed = None
        if sealed is None:
            with clear_end(output.folder):
                sealed = self.make(inputs, output, executor)
        else:
            logger.info(f"{self.name}: complete, reusing {sealed.folder}")
        self.check_result(sealed, inputs, options)
        return sealed


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
    workspace = Workspace(root)
    return {
        name: workspace.require(name, stage.name, stage.command_for(name))
        for name in stage.input_names()
    }


def funnel(dataset: Dataset) -> str:
    """Return a dataset's counts in one phrase."""
    manifest = dataset.manifest
    words = [f"{manifest['rows']} rows"] if manifest["shards"] else []
    words += [f"{count} {name.replace('_', ' ')}" for name, count in manifest["counts"].items()]
    words.append(f"{len(manifest['failed'])} failed")
    return ", ".join(words)
