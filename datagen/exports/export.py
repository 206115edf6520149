"""``datagen export``: copies of a workspace in the layouts of other tools."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from datagen.errors import ConfigError, StageError
from datagen.executors.job import Executor, Report, Task, WorkerOptions
from datagen.exports.coco import Coco
from datagen.exports.parts import claim
from datagen.exports.trellis import Trellis
from datagen.exports.webdataset import WebDataset
from datagen.shards import Folder
from datagen.shards.workspace import Workspace

logger = logging.getLogger(__name__)

Kind = Literal["webdataset", "trellis", "coco"]


class Layout(Protocol):
    """How a tool wants the views: written shard by shard, anywhere, then finished once."""

    kind: ClassVar[str]
    final: ClassVar[str | None]
    """The file that is written last; None if the parts are all."""

    @property
    def out(self) -> Folder: ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The datasets that are exported, by their folders; without them there is no export."""
        ...

    def part(self, shard: int) -> str:
        """Return the file that is written last for a shard of renders."""
        ...

    def write_shard(self, shard: int, layout_ids: Sequence[int]) -> None:
        """Write what belongs to a shard; its part last. The same bytes each time."""
        ...

    def finish(self, shards: Sequence[int]) -> str:
        """Write what needs all shards, and say in words what there is."""
        ...


@dataclass(frozen=True)
class ExportJob:
    """An export as executors know work: a task is a shard of renders."""

    layout: Layout

    @property
    def name(self) -> str:
        return f"export {self.layout.kind}"

    @property
    def uses_gpu(self) -> bool:
        return False

    @contextmanager
    def open(self, options: WorkerOptions) -> Iterator[None]:
        yield

    def perform(self, opened: None, task: Task) -> Report:
        self.layout.write_shard(task.shard, task.units)
        return Report()

    def fail(self, task: Task, reason: str) -> Report:
        raise StageError(
            f"{self.name}: shard {task.shard} of the renders cannot be written: {reason}. "
            "What is finished is safe; run the same command again."
        )


def export(
    kind: Kind, root: Folder, out: Folder, executor: Executor, *, instances: bool = False
) -> str:
    """Export a workspace's kept views into a folder; go on if some of it is there.

    Args:
        kind: whose layout.
        root: the workspace.
        out: new, or that of an interrupted export; a URL as well.
        executor: where shards are written; never changes the bytes.
        instances: trellis: entries for the instances besides the scenes.

    Returns:
        What was written, in words.

    Raises:
        DatasetError: a dataset is missing that this export needs.
        ConfigError: ``out`` holds something else, or ``instances`` is asked of another kind.
    """
    if instances and kind != "trellis":
        raise ConfigError(
            f"export {kind}: --instances was given. Only trellis has entries of their own for "
            "instances; leave it out, since the others hold every instance anyway."
        )
    workspace = Workspace(root)
    layout = _open_layout(kind, workspace, out, instances=instances)
    datasets = {name: workspace.require(name, "export") for name in layout.reads}
    claim(out, f"{kind}, with instances" if instances else kind, list(datasets.values()))
    if layout.final is not None and out.exists(layout.final):
        return "complete, nothing to do"
    shards = datasets["renders"].units_by_shard()
    todo = [
        Task(shard, tuple(layout_ids))
        for shard, layout_ids in shards.items()
        if not out.exists(layout.part(shard))
    ]
    for done, _ in enumerate(executor.run(ExportJob(layout), todo), 1):
        logger.info(f"export {kind}: {done} of {len(todo)} shards")
    return layout.finish(list(shards))


def _open_layout(kind: Kind, workspace: Workspace, out: Folder, *, instances: bool) -> Layout:
    if kind == "trellis":
        return Trellis(workspace, out, instances=instances)
    if kind == "coco":
        return Coco(workspace, out)
    return WebDataset(workspace, out, with_latents=workspace.dataset("latents") is not None)
