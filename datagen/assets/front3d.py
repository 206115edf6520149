"""3D-FRONT as processed by MIDI: rooms of furniture, one GLB an object in its room's coordinates.

Layout of the download (Hugging Face ``huanngzh/3D-Front``): ``3D-FRONT-SCENE/<house>/<room>/
<Category>_<uuid>_<k>.glb``, and the parallel lists ``midi_room_ids.json`` ("<house>/<room>") and
``midi_furniture_ids.json`` (the names of each room's objects; the k-th has value k in the
semantic pictures). The last 1000 rooms are the test set.
"""

import hashlib
import json
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datagen.assets.objects import (
    FetchedModel,
    ImportOptions,
    SourceObject,
    canonical_json,
    file_asset_id,
    listing_fingerprint,
)
from datagen.errors import DatasetError, RowError

LICENSE = "CC-BY-NC-4.0"
AUTHOR = "3D-FRONT and 3D-FUTURE, Alibaba; processed by MIDI"
SCENES = "3D-FRONT-SCENE"
NUM_TEST_ROOMS = 1000
OPTIONS = ImportOptions()

Split = Literal["all", "train", "test"]


@dataclass(frozen=True)
class Room:
    """One room of the list."""

    index: int
    """Its place in ``midi_room_ids.json``."""
    room_id: str
    """``<house>/<room>``."""
    objects: tuple[str, ...]
    """File names without ``.glb``, in the order of the semantic pictures."""

    @property
    def uids(self) -> list[str]:
        """The objects as the assets dataset names them (``source_uid``)."""
        return [f"{self.room_id}/{name}" for name in self.objects]


class Front3DSource:
    """Every GLB of every room. A piece that stands in two rooms is two objects."""

    name = "front3d"

    def __init__(self, path: Path) -> None:
        self.scenes = path / SCENES if (path / SCENES).is_dir() else path
        if not any(self.scenes.glob("*/*/*.glb")):
            raise DatasetError(
                f"{path}: no <house>/<room>/<object>.glb in it or in its {SCENES}. Expected "
                "3D-FRONT as processed by MIDI (huanngzh/3D-Front), unpacked; "
                "correct --source-path."
            )

    def fingerprint(self) -> str:
        """Return the sha256 over all objects' bytes and names."""
        return listing_fingerprint(self.list_objects())

    def list_objects(self) -> list[SourceObject]:
        """Return the objects, room after room by name."""
        return self._objects

    def fetch(self, obj: SourceObject, folder: Path) -> FetchedModel:
        """Return the file where it lies."""
        path = self.scenes / f"{obj.uid}.glb"
        if not path.is_file():
            raise RowError(f"{path} is gone since it was listed")
        return FetchedModel(path, obj.options)

    @cached_property
    def _objects(self) -> list[SourceObject]:
        return [describe(self.scenes, path) for path in sorted(self.scenes.glob("*/*/*.glb"))]


def describe(scenes: Path, path: Path) -> SourceObject:
    """Return the entry of one GLB.

    Its id is also over its name: the same bytes in two rooms stay two objects, as the rooms'
    lists name both.
    """
    uid = path.relative_to(scenes).with_suffix("").as_posix()
    return SourceObject(
        uid=uid,
        name=path.stem,
        category=path.stem.split("_")[0],
        license=LICENSE,
        author=AUTHOR,
        asset_id=file_asset_id([(uid, path.read_bytes())], OPTIONS),
        options=OPTIONS,
    )


def read_rooms(path: Path, split: Split = "all") -> list[Room]:
    """Return the rooms of a split, in the order of the list.

    Raises:
        DatasetError: a list is missing or the two do not belong together.
    """
    room_ids = read_json(path / "midi_room_ids.json")
    furniture = read_json(path / "midi_furniture_ids.json")
    if len(room_ids) != len(furniture):
        raise DatasetError(
            f"{path}: midi_room_ids.json lists {len(room_ids)} rooms and midi_furniture_ids.json "
            f"{len(furniture)}. Expected one entry a room in both; download them again."
        )
    rooms = [
        Room(index, room_id, tuple(name.removesuffix(".glb") for name in names))
        for index, (room_id, names) in enumerate(zip(room_ids, furniture, strict=True))
    ]
    first_test = max(len(rooms) - NUM_TEST_ROOMS, 0)
    chosen = {"all": rooms, "train": rooms[:first_test], "test": rooms[first_test:]}[split]
    if not chosen:
        raise DatasetError(
            f"{path}/midi_room_ids.json: its {len(rooms)} rooms leave none for the split {split} "
            f"(the last {NUM_TEST_ROOMS} are the test set). Choose another --split."
        )
    return chosen


def rooms_fingerprint(rooms: list[Room]) -> str:
    """Return a sha256 over the rooms, their places in the list and their objects."""
    return hashlib.sha256(canonical_json([astuple(room) for room in rooms])).hexdigest()


def read_json(path: Path) -> list[Any]:
    """Return a JSON file's list."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: no such file. Expected it beside {SCENES}; download it from "
            "huanngzh/3D-Front, or correct --source-path."
        ) from None
    except ValueError as error:
        raise DatasetError(
            f"{path}: is not JSON ({error}). Expected a list; download it again."
        ) from error
    if not isinstance(content, list):
        raise DatasetError(f"{path}: holds a {type(content).__name__}. Expected a list.")
    return content
