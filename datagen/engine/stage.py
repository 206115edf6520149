"""The one abstraction: a stage reads datasets and writes a dataset.

A stage is a frozen dataclass. Its fields decide every byte of its dataset. The executor decides
only where and how fast the dataset is made. Most stages make their dataset unit by unit; see
``UnitStage``.
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
"""Disk full, over quota, or read-only: every row would fail."""
NOT_WRITABLE = NO_ROOM | {errno.EFBIG, errno.EACCES, errno.EPERM}
"""When writing, also: file too large, or no permission."""


@dataclass(frozen=True)
class RunOptions:
    """How a stage is run. These options do not enter the fingerprint."""

    overwrite: bool = False
    """Delete the content of the stage's folder and make it again."""
    retry_failed: bool = False
    """Retry the rows that failed in an earlier run."""
    max_failed_fraction: float = 0.02
    """The run ends with an error if a larger share of the units failed."""
    only: tuple[int, ...] = ()
    """Make only the units with these ids, for example scenes, and report the result of each. Failed
    units are retried."""


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """Base of all stages. Subclasses set the class variables and implement ``make``."""

    name: ClassVar[str]
    table: ClassVar[Table]
    """The stage's dataset: folder, verb and columns."""
    revision: ClassVar[int]
    reads: ClassVar[tuple[Table, ...]] = ()
    """Tables of the input datasets."""
    uses_gpu: ClassVar[bool] = False
    """Whether a worker uses a GPU, or a share of one, if there is one."""

    @abstractmethod
    def make(self, inputs: Inputs, output: Output, executor: Executor) -> Dataset:
        """Make the missing parts of the dataset, and seal it."""

    @abstractmethod
    def output(self, root: Folder, inputs: Inputs) -> Output:
        """Return the folder of a workspace that this stage writes."""

    def input_names(self) -> tuple[str, ...]:
        """Return the folders that are read: those of ``reads`` that no field replaces."""
        return tuple(table.folder for table in self.reads)

    def command_for(self, input_name: str) -> str:
        """Return the command that makes an input, without ``--root``."""
        return f"datagen {by_folder(self.reads)[input_name].verb}"

    def check(self, inputs: Inputs) -> None:
        """Check that the fields fit the inputs, before anything is written or deleted.

        Raises:
            ConfigError: they do not fit.
        """

    def check_result(self, dataset: Dataset, inputs: Inputs, options: RunOptions) -> None:
        """Check the finished dataset.

        Raises:
            StageError: it does not fulfil the options, for example too many rows failed.
        """

    def is_complete(self, dataset: Dataset) -> bool:
        """Return whether the dataset is complete; otherwise the exit code is 1."""
        return True

    @final
    def identity(self, inputs: Inputs) -> Identity:
        """Return what decides the bytes: name, revision, fields and fingerprints of the inputs.

        Each field declares whether and how it takes part; see ``datagen.core.fields``.
        """
        fingerprints = {name: dataset.fingerprint for name, dataset in inputs.items()}
        fingerprints |= content_fingerprints(self)
        return Identity(self.name, self.revision, deciding_fields(self), fingerprints)

    def run(self, root: Folder, executor: Executor, options: RunOptions) -> Dataset:
        """Return the sealed dataset, after making its missing parts.

        Args:
            root: the workspace.
            executor: where the work is done.
            options: how the stage is run.

        Raises:
            ConfigError: the fields do not fit the inputs.
            DatasetError: an input is missing, or the folder holds another dataset.
            StageError: too many rows failed, or the folder cannot be written.
        """
        inputs = open_inputs(self, root)
        self.check(inputs)
        output = self.output(root, inputs)
        if options.overwrite:  # after all checks: a wrong field must not delete a dataset
            output.folder.delete_folder()
        sealed = output.sealed()
        if sealed is not None and sealed.manifest["failed"] and options.retry_failed:
            output.reopen_failed(sealed)
            sealed = None
        if sealed is None:
            with explain_write_errors(output.folder):
                sealed = self.make(inputs, output, executor)
        else:
            logger.info(f"{self.name}: complete, reusing {sealed.folder}")
        self.check_result(sealed, inputs, options)
        return sealed


@contextmanager
def explain_write_errors(folder: Folder, numbers: Container[int] = NOT_WRITABLE) -> Iterator[None]:
    """Turn an ``OSError`` for lack of room or permission into an error that ends the run.

    Args:
        folder: named in the error.
        numbers: the ``errno`` values to turn.

    Raises:
        StageError: the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise
        raise StageError(
            f"{folder}: cannot write ({error}). Expected a writable folder with enough room; fix "
            "this and run the same command again; it resumes where it stopped."
        ) from error


def open_inputs(stage: Stage, root: Folder) -> Inputs:
    """Return a stage's input datasets by folder name.

    Raises:
        DatasetError: one is missing; the message names the command that makes it.
    """
    workspace = Workspace(root)
    return {
        name: workspace.require(name, stage.name, stage.command_for(name))
        for name in stage.input_names()
    }


def funnel(dataset: Dataset) -> str:
    """Return a dataset's counts as one phrase."""
    manifest = dataset.manifest
    words = [f"{manifest['rows']} rows"] if manifest["shards"] else []
    words += [f"{count} {name.replace('_', ' ')}" for name, count in manifest["counts"].items()]
    words.append(f"{len(manifest['failed'])} failed")
    return ", ".join(words)
