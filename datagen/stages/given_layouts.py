"""``datagen layouts --source front3d``: the rooms of 3D-FRONT instead of random scenes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from datagen.assets.front3d import Front3DSource, Room, Split, read_rooms, rooms_fingerprint
from datagen.core.fields import content
from datagen.engine.stage import Inputs
from datagen.engine.units import Process, UnitStage, WorkerContext
from datagen.errors import ConfigError, RowError, StageError
from datagen.shards import Row
from datagen.shards.declared import ASSETS, LAYOUTS
from datagen.shards.tables import Table


@dataclass(frozen=True, kw_only=True)
class TakeLayouts(UnitStage):
    """Take the rooms of 3D-FRONT (as processed by MIDI) as layouts, with the original positions.

    ``layout_id`` is a room's index in ``midi_room_ids.json``. Placements are in the order of the
    room's furniture list, so that instance i has value i in MIDI's semantic images.
    """

    name: ClassVar[str] = "layouts"
    table: ClassVar[Table] = LAYOUTS
    revision: ClassVar[int] = 1
    reads: ClassVar[tuple[Table, ...]] = (ASSETS,)
    keeps_parts: ClassVar[bool] = False

    source: Literal["front3d"] = "front3d"
    """Source of the rooms. The workspace's assets must come from the same source."""
    source_path: Path | None = content(
        lambda stage: rooms_fingerprint(stage.rooms), default=None, name="source"
    )
    """The folder with midi_room_ids.json and midi_furniture_ids.json."""
    split: Split = "all"
    """MIDI's split: the last 1000 rooms are test, all rooms before them are train."""
    num_layouts: Annotated[int | None, tyro.conf.arg(aliases=["--n"])] = None
    """Number of rooms: the first of the split. By default all."""
    leave_out_unusable: bool = False
    """Take rooms with quarantined objects, without these objects. By default such rooms are failed
    rows."""

    def __post_init__(self) -> None:
        if self.num_layouts is not None and self.num_layouts < 1:
            raise ConfigError(f"num_layouts (--n) must be at least 1, got {self.num_layouts}.")

    @cached_property
    def rooms(self) -> list[Room]:
        """The rooms to take."""
        if self.source_path is None:
            raise ConfigError(
                "layouts: --source front3d has no path. Expected the folder with "
                "midi_room_ids.json; give it with --source-path FOLDER."
            )
        return read_rooms(self.source_path, self.split)[: self.num_layouts]

    def command_for(self, input_name: str) -> str:
        """Return the command that makes an input: assets must have the rooms' source."""
        flags = f"--source {self.source} --source-path {self.source_path}"
        return f"{super().command_for(input_name)} {flags}"

    def units(self, inputs: Inputs) -> Sequence[int]:
        return [room.index for room in self.rooms]

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        columns = ["asset_id", "source", "source_uid", "reason", "radius_m", "source_origin_m"]
        rows = inputs["assets"].rows(columns)
        assets = {row["source_uid"]: row for row in rows if row["source"] == Front3DSource.name}
        if not assets:
            raise StageError(
                f"{inputs['assets'].folder} has no object of {Front3DSource.name}. Expected the "
                "furniture of the rooms; run `datagen assets --source front3d --source-path ...` "
                "in this workspace."
            )
        rooms = {room.index: room for room in self.rooms}

        def process(layout_id: int) -> list[Row]:
            placements = list(self.place(rooms[layout_id], assets))
            row = dict.fromkeys(LAYOUTS.schema.names)  # columns of the random draw stay null
            return [row | {"layout_id": layout_id, "placements": placements}]

        yield process

    def place(self, room: Room, assets: dict[str, Row]) -> Iterator[dict[str, Any]]:
        """Yield the placements of one room.

        Raises:
            RowError: one of its objects is not among the assets or is quarantined; with
                ``leave_out_unusable``: none of its objects is usable.
        """
        num_placed = 0
        for uid in room.uids:
            asset = assets.get(uid)
            if asset is None:
                raise RowError(
                    f"room {room.room_id}: {uid} is not among the assets. Unpack the whole room "
                    "and make the assets again"
                )
            if asset["reason"] is None:
                num_placed += 1
                yield placement(asset)
            elif not self.leave_out_unusable:
                raise RowError(
                    f"room {room.room_id}: {uid} is quarantined ({asset['reason']}). "
                    "--leave-out-unusable takes the room without it"
                )
        if not num_placed:
            raise RowError(f"room {room.room_id} has no usable object")


def placement(asset: Row) -> dict[str, Any]:
    """Return a placement at the asset's original position: no rotation, scale 1, no support.

    The keys are those of a layout's ``placements``; metres and radians, z_up world.
    """
    return {
        "asset_id": asset["asset_id"],
        "scale": 1.0,
        "yaw_rad": 0.0,
        "position_m": asset["source_origin_m"],
        "radius_m": asset["radius_m"],
        "supported_by": -1,
    }
