"""``datagen assets``: every object of a source opened once, cleaned, measured, prepared."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from datagen.assets.prepare import prepare_asset
from datagen.assets.source import AssetSource, open_source
from datagen.blender.process import BlenderProcess
from datagen.errors import ConfigError, DatasetError
from datagen.shards import Identity, Output, Row
from datagen.shards.schemas import ASSETS
from datagen.stages.stage import Inputs, Process, Stage, WorkerContext

DEFAULT_PROCEDURAL_OBJECTS = 48


@dataclass(frozen=True, kw_only=True)
class PrepareAssets(Stage):
    """Read single 3D objects and bring them into the form that all later stages use.

    The rows and the geometry are reproducible to the byte; the prepared ``.blend`` files hold the
    same content, but Blender writes addresses of its memory into them.
    """

    name: ClassVar[str] = "assets"
    folder: ClassVar[str] = "assets"
    revision: ClassVar[int] = 1
    schema = ASSETS
    unit_column: ClassVar[str] = "object_index"
    unit_noun: ClassVar[str] = "objects"

    source: Literal["procedural", "sweethome3d"] = "procedural"
    """Where the objects come from."""
    source_path: Path | None = field(default=None, metadata={"identity": False})
    """The source's files: a folder with .sh3f packs for sweethome3d."""
    packs: tuple[str, ...] = ()
    """sweethome3d: names of the packs to read, without .sh3f; none reads all."""
    num_objects: int | None = None
    """procedural: how many to make (48 if not given); else: only the first so many."""
    seed: int = 0
    """procedural: of the objects' parameters."""

    def __post_init__(self) -> None:
        if self.num_objects is not None and self.num_objects < 1:
            raise ConfigError(f"num_objects must be at least 1, got {self.num_objects}.")

    @property
    def shard_size(self) -> int:
        return 256

    def open_source(self) -> AssetSource:
        """Open the source; four-part errors for what is missing."""
        return open_source(
            self.source,
            self.source_path,
            num_objects=self.num_objects or DEFAULT_PROCEDURAL_OBJECTS,
            seed=self.seed,
            packs=self.packs,
        )

    def identity(self, inputs: Inputs) -> Identity:
        """The source is known by its content, wherever it lies."""
        identity = super().identity(inputs)
        return replace(identity, inputs={"source": self.open_source().fingerprint()})

    def units(self, inputs: Inputs) -> Sequence[int]:
        objects = self.open_source().list_objects()
        if not objects:
            raise DatasetError(
                f"{self.source_path or self.source}: the source lists no objects. "
                "Expected at least one; check --source-path and --packs."
            )
        return range(len(objects))[: self.num_objects]

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        source = self.open_source()
        objects = source.list_objects()
        with (
            tempfile.TemporaryDirectory(prefix="datagen-assets-") as scratch,
            BlenderProcess(log_path(context, self.name), threads=context.threads) as blender,
        ):

            def process(index: int) -> list[Row]:
                row = prepare_asset(source, objects[index], blender, Path(scratch))
                for column in ("geometry_path", "prepared_path"):
                    if row[column] is not None:
                        made = Path(scratch) / row[column]
                        context.folder.write_bytes(row[column], made.read_bytes())
                        made.unlink()
                return [row | {"object_index": index}]

            yield process

    def summarise(self, output: Output) -> dict[str, Any]:
        """Count usable objects, and quarantined ones by reason."""
        counts: Counter[str] = Counter()
        for row in output.rows(["status", "reason"]):
            reason = row["reason"]
            counts[row["status"] if reason is None else f"{row['status']}_{reason}"] += 1
        return {"counts": dict(sorted(counts.items()))}


def log_path(context: WorkerContext, stage: str) -> Path:
    """Return where a worker's Blender writes its output."""
    if context.folder.is_local:
        return context.folder.path / "logs" / f"blender-{context.name}.log"
    return Path(tempfile.gettempdir()) / "datagen-logs" / f"{stage}-{context.name}.log"
