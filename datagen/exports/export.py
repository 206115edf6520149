"""``datagen export``: copies of a workspace's views in the formats of other tools."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self

from datagen.errors import ConfigError, StageError
from datagen.executors.job import Executor, Report, Task, WorkerOptions
from datagen.exports.coco import Coco
from datagen.exports.parts import claim
from datagen.exports.trellis import Trellis
from datagen.exports.webdataset import WebDataset
from datagen.shards import Folder
from datagen.shards.workspace import Workspace

logger = logging.getLogger(__name__)


class ExportFormat(Protocol):
    """A format in which another tool reads views.

    The shards of renders are written independently, on any worker; then ``finish`` is called once.
    """

    name: ClassVar[str]
    final: ClassVar[str | None]
    """The file that ``finish`` writes last; None if it writes no file."""
    has_instances: ClassVar[bool]
    """Whether instances can be entries of their own, besides the scenes."""

    @classmethod
    def of(cls, workspace: Workspace, out: Folder, *, instances: bool) -> Self:
        """Return the export of a workspace into a folder."""
        ...

    @property
    def out(self) -> Folder:
        """The output folder."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The folders of the datasets that are needed."""
        ...

    def part(self, shard: int) -> str:
        """Return the name of the file that ``write_shard`` writes last."""
        ...

    def write_shard(self, shard: int, layout_ids: Sequence[int]) -> None:
        """Write the files of one shard of renders, the same bytes each time; its part last."""
        ...

    def finish(self, shards: Sequence[int]) -> str:
        """Write what needs all shards, and return in words what was written."""
        ...


FormatName = Literal["webdataset", "trellis", "coco"]
FORMATS: dict[str, type[ExportFormat]] = {
    "webdataset": WebDataset,
    "trellis": Trellis,
    "coco": Coco,
}


@dataclass(frozen=True)
class ExportJob:
    """An export as executors run it: a task is a shard of renders."""

    target: ExportFormat

    @property
    def name(self) -> str:
        return f"export {self.target.name}"

    @property
    def uses_gpu(self) -> bool:
        return False

    @contextmanager
    def open(self, options: WorkerOptions) -> Iterator[None]:
        yield

    def perform(self, opened: None, task: Task) -> Report:
        self.target.write_shard(task.shard, task.units)
        return Report()

    def fail(self, task: Task, reason: str) -> Report:
        raise StageError(
            f"{self.name}: shard {task.shard} of the renders cannot be written: {reason}. "
            "What is finished is safe; run the same command again."
        )


def export(
    name: FormatName, root: Folder, out: Folder, executor: Executor, *, instances: bool = False
) -> str:
    """Export a workspace's kept views into a folder, and return what was written, in words.

    An interrupted export is resumed: shards that are complete are kept.

    Args:
        name: the format, a key of FORMATS.
        root: the workspace.
        out: a new folder, or that of an interrupted export; local or a URL.
        executor: where shards are written; never changes the bytes.
        instances: also make an entry for each instance, where the format has such entries.

    Raises:
        DatasetError: a dataset that this format needs is missing.
        ConfigError: ``out`` holds other files, or the format has no entries for instances.
    """
    kind = FORMATS[name]
    if instances and not kind.has_instances:
        others = [name for name, other in FORMATS.items() if other.has_instances]
        raise ConfigError(
            f"export {name}: --instances was given. Expected a format with separate entries for "
            f"instances ({', '.join(others)}); leave it out, all instances are exported anyway."
        )
    workspace = Workspace(root)
    target = kind.of(workspace, out, instances=instances)
    datasets = {folder: workspace.require(folder, "export") for folder in target.reads}
    claim(out, f"{name}, with instances" if instances else name, list(datasets.values()))
    if target.final is not None and out.exists(target.final):
        return "complete, nothing to do"
    shards = datasets["renders"].units_by_shard()
    todo = [
        Task(shard, tuple(layout_ids))
        for shard, layout_ids in shards.items()
        if not out.exists(target.part(shard))
    ]
    for done, _ in enumerate(executor.run(ExportJob(target), todo), 1):
        logger.info(f"export {name}: {done} of {len(todo)} shards")
    return target.finish(list(shards))
