"""``datagen assets``: every object of a source is opened once, cleaned, measured and prepared."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from datagen.assets.licenses import SPDX_PATTERN
from datagen.assets.objects import SourceObject
from datagen.assets.prepare import DEFAULT_MAX_FACES, prepare_asset
from datagen.assets.selection import list_fingerprint, restrict_to_list, set_aside_unlicensed
from datagen.assets.source import AssetSource, SourceName, SourceOptions, open_source
from datagen.blender.scratch import scratch_folder
from datagen.core.fields import content, how
from datagen.engine.stage import Inputs
from datagen.engine.units import Process, UnitStage, WorkerContext
from datagen.errors import ConfigError, DatasetError
from datagen.shards import Output, Row
from datagen.shards.declared import ASSETS
from datagen.shards.tables import Table
from datagen.stages.worker_blender import worker_blender

MIN_MAX_FACES = 100


@dataclass(frozen=True, kw_only=True)
class PrepareAssets(UnitStage):
    """Read single 3D objects and bring them into the form that all later stages use.

    The rows and the geometry are reproducible to the byte; the prepared ``.blend`` files hold the
    same content, but differ in bytes because Blender stores memory addresses in them.
    """

    name: ClassVar[str] = "assets"
    table: ClassVar[Table] = ASSETS
    revision: ClassVar[int] = 2
    unit_column: ClassVar[str] = "object_index"
    unit_noun: ClassVar[str] = "objects"

    source: SourceName = "procedural"
    """Where the objects come from."""
    source_path: Path | None = content(
        lambda stage: stage.opened.fingerprint(), default=None, name="source"
    )
    """The folder with the source's files: .sh3f packs, 3D models, or 3D-FRONT."""
    packs: tuple[str, ...] = ()
    """sweethome3d: names of the packs to read, without .sh3f. By default all packs are read."""
    uids: Path | None = how(None)
    """objaverse: a text file with one object uid per line. Its content is part of the dataset's
    identity."""
    lvis_categories: tuple[str, ...] = ()
    """objaverse: use only objects of these LVIS categories."""
    num_objects: int | None = None
    """Number of objects. procedural: objects to make, 48 by default. objaverse: objects drawn at
    random. Other sources: only the first objects of the source, all by default."""
    license_allow: tuple[str, ...] = ()
    """SPDX identifiers of the allowed licenses. Objects with other licenses are quarantined and
    are not opened. By default all licenses are allowed."""
    asset_list: Annotated[Path | None, tyro.conf.arg(name="list")] = content(
        lambda stage: stage.asset_list and list_fingerprint(stage.asset_list),
        default=None,
        name="list",
    )
    """A reviewed list of objects (manifests/*.csv). Only listed objects are used, and their files
    must have the listed checksums."""
    max_faces: int = DEFAULT_MAX_FACES
    """Objects with more triangles are decimated to about this number."""
    seed: int = 0
    """Random seed. procedural: for the objects' parameters. objaverse: for the draw of objects."""

    def __post_init__(self) -> None:
        if self.num_objects is not None and self.num_objects < 1:
            raise ConfigError(f"num_objects must be at least 1, got {self.num_objects}.")
        if self.max_faces < MIN_MAX_FACES:
            raise ConfigError(f"max_faces must be at least {MIN_MAX_FACES}, got {self.max_faces}.")
        for license_id in self.license_allow:
            if not SPDX_PATTERN.fullmatch(license_id):
                raise ConfigError(
                    f"license_allow has {license_id!r}. Expected SPDX identifiers such as "
                    "CC0-1.0 CC-BY-4.0, separated by blanks."
                )

    @property
    def shard_size(self) -> int:
        return 256

    @cached_property
    def opened(self) -> AssetSource:
        """The source, opened once per stage and sent to the workers with its list of objects."""
        return open_source(
            self.source,
            SourceOptions(
                path=self.source_path,
                num_objects=self.num_objects,
                seed=self.seed,
                packs=self.packs,
                uids=self.uids,
                lvis_categories=self.lvis_categories,
                licenses=self.license_allow if self.source == "objaverse" else (),
            ),
        )

    @cached_property
    def objects(self) -> list[SourceObject]:
        """The objects to prepare. Objects already known to be unusable are marked."""
        objects = self.opened.list_objects()
        if self.asset_list is not None:
            objects = restrict_to_list(objects, self.source, self.asset_list)
        return set_aside_unlicensed(objects, self.license_allow)[: self.num_objects]

    def units(self, inputs: Inputs) -> Sequence[int]:
        if not self.objects:
            raise DatasetError(
                f"{self.source_path or self.source}: the source lists no objects. "
                "Expected at least one; check --source-path and --packs."
            )
        return range(len(self.objects))

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        source, objects = self.opened, self.objects
        with (
            scratch_folder() as scratch,
            worker_blender(context, renders=False) as blender,
        ):

            def process(index: int) -> list[Row]:
                row = prepare_asset(
                    source, objects[index], blender, scratch, max_faces=self.max_faces
                )
                for column in ("geometry_path", "prepared_path"):
                    if row[column] is not None:
                        made = scratch / row[column]
                        context.folder.write_bytes(row[column], made.read_bytes())
                        made.unlink()
                return [row | {"object_index": index}]

            yield process

    def summarise(self, output: Output) -> dict[str, Any]:
        """Return the number of usable objects, and of quarantined objects by reason."""
        counts: Counter[str] = Counter()
        for row in output.rows(["status", "reason"]):
            reason = row["reason"]
            counts[row["status"] if reason is None else f"{row['status']}_{reason}"] += 1
        return {"counts": dict(sorted(counts.items()))}
