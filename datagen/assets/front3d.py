"""Source ``front3d``: 3D-FRONT as processed by MIDI, one GLB per object in room coordinates.

Files of the download (Hugging Face ``huanngzh/3D-Front``):

- ``3D-FRONT-SCENE/<house>/<room>/<Category>_<uuid>_<k>.glb``: the objects.
- ``midi_room_ids.json``: the rooms, as "<house>/<room>". The last 1000 are the test set.
- ``midi_furniture_ids.json``: for each of these rooms, the names of its objects. Object k has
  value k in the semantic images.
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
SCENES_FOLDER = "3D-FRONT-SCENE"
NUM_TEST_ROOMS = 1000
_OPTIONS = ImportOptions()

Split = Literal["all", "train", "test"]


@dataclass(frozen=True)
class Room:
    """One room of the list."""

    index: int
    """Index within ``midi_room_ids.json``."""
    room_id: str
    """``<house>/<room>``."""
    objects: tuple[str, ...]
    """File names without ``.glb``, ordered by their value in the semantic images."""

    @property
    def uids(self) -> list[str]:
        """The ``source_uid`` of each object in the assets dataset."""
        return [f"{self.room_id}/{name}" for name in self.objects]


class Front3DSource:
    """Every GLB of every room. A piece of furniture in two rooms is two objects.

    Args:
        path: the unpacked download, or its 3D-FRONT-SCENE.

    Raises:
        DatasetError: there is no GLB.
    """

    name = "front3d"

    def __init__(self, path: Path) -> None:
        self.scenes = path / SCENES_FOLDER if (path / SCENES_FOLDER).is_dir() else path
        if not any(self.scenes.glob("*/*/*.glb")):
            raise DatasetError(
                f"{path}: no <house>/<room>/<object>.glb in it or in its {SCENES_FOLDER}. Expected "
                "3D-FRONT as processed by MIDI (huanngzh/3D-Front), unpacked; "
                "correct --source-path."
            )

    def fingerprint(self) -> str:
        """Return the sha256 over all objects' bytes and names."""
        return listing_fingerprint(self.list_objects())

    def list_objects(self) -> list[SourceObject]:
        """Return the objects, sorted by house, room and name."""
        return self._objects

    def fetch(self, obj: SourceObject, folder: Path) -> FetchedModel:
        """Return the file in its place; RowError if it no longer exists."""
        path = self.scenes / f"{obj.uid}.glb"
        if not path.is_file():
            raise RowError(f"{path} no longer exists")
        return FetchedModel(path, obj.options)

    @cached_property
    def _objects(self) -> list[SourceObject]:
        paths = sorted(self.scenes.glob("*/*/*.glb"))
        return [describe_room_object(self.scenes, path) for path in paths]


def describe_room_object(scenes: Path, path: Path) -> SourceObject:
    """Return the object of one GLB.

    The asset_id also covers the name, so equal bytes in two rooms stay two objects, as in the
    rooms' lists.
    """
    uid = path.relative_to(scenes).with_suffix("").as_posix()
    return SourceObject(
        uid=uid,
        name=path.stem,
        category=path.stem.split("_")[0],
        license=LICENSE,
        author=AUTHOR,
        asset_id=file_asset_id([(uid, path.read_bytes())], _OPTIONS),
        options=_OPTIONS,
    )


def read_rooms(path: Path, split: Split = "all") -> list[Room]:
    """Return the rooms of a split, in the order of the list.

    Args:
        path: the folder with the two lists.
        split: which rooms.

    Raises:
        DatasetError: a list is missing or broken, the two differ in length, or the split is empty.
    """
    room_ids = read_json(path / "midi_room_ids.json")
    furniture = read_json(path / "midi_furniture_ids.json")
    if len(room_ids) != len(furniture):
        raise DatasetError(
            f"{path}: midi_room_ids.json lists {len(room_ids)} rooms and midi_furniture_ids.json "
            f"{len(furniture)}. Expected one entry per room in both; download them again."
        )
    rooms = [
        Room(index, room_id, tuple(name.removesuffix(".glb") for name in names))
        for index, (room_id, names) in enumerate(zip(room_ids, furniture, strict=True))
    ]
    first_test = max(len(rooms) - NUM_TEST_ROOMS, 0)
    chosen = {"all": rooms, "train": rooms[:first_test], "test": rooms[first_test:]}[split]
    if not chosen:
        raise DatasetError(
            f"{path}/midi_room_ids.json: its {len(rooms)} rooms leave none for the split {split}. "
            f"Expected more than {NUM_TEST_ROOMS}, the test set; choose another --split."
        )
    return chosen


def rooms_fingerprint(rooms: list[Room]) -> str:
    """Return the sha256 over the rooms, their indices in the list and their objects."""
    return hashlib.sha256(canonical_json([astuple(room) for room in rooms])).hexdigest()


def read_json(path: Path) -> list[Any]:
    """Return the list in a JSON file; DatasetError if there is no such file or list."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: no such file. Expected it beside {SCENES_FOLDER}; download it from "
            "huanngzh/3D-Front, or correct --source-path."
        ) from None
    except ValueError as error:
        raise DatasetError(
            f"{path}: is not JSON ({error}). Expected a list; download it again."
        ) from error
    if not isinstance(content, list):
        raise DatasetError(
            f"{path}: holds a {type(content).__name__}. Expected a list; download it again."
        )
    return content
