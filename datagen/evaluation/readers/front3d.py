"""MIDI's 3D-FRONT as truth: ``3D-FRONT-SURFACE/<house>/<room>/<object>.npy``, or the same in GLB.

Rooms and the order of their objects are in ``midi_room_ids.json`` and ``midi_furniture_ids.json``;
the test split is the last 1000. Scene ids are ``<house>-<room>``, as MIDI names its test files.
Each ``.npy`` is a pickled dict of ``surface_points`` and ``surface_normals`` (N, 3). Unpickling
runs what the file says, so only names that rebuild plain arrays are allowed; others are refused.
"""

import json
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datagen.core.frames import Y_UP_TO_Z_UP, Floats, transform_points
from datagen.core.meshes import Mesh
from datagen.errors import DatasetError, RowError
from datagen.evaluation.readers.scenes import ReadScene, SceneFormat, one_mesh

TEST_ROOMS = 1000
SURFEL_RADIUS = 1e-5
"""Of [−1, 1]³: far below every threshold."""

_ARRAY_NAMES = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_NAMES:
            raise pickle.UnpicklingError(f"it calls {module}.{name}")
        return super().find_class(module, name)


def read_surface(path: Path) -> Floats:
    """Return the surface points (N, 3) of one object's ``.npy``, Y up; no code of it is run.

    Raises:
        RowError: the file is missing, is no such array, or would call anything but numpy's own.
    """
    try:
        with path.open("rb") as file:
            content = _content(file)
        points = np.asarray(content["surface_points"], np.float64)
    except FileNotFoundError as error:
        raise RowError(f"{path}: no such file; the room's list names this object.") from error
    except (ValueError, LookupError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise RowError(
            f"{path}: refused ({error}); expected a dict with surface_points (N, 3) made of "
            "plain arrays. Take the file from its publisher again."
        ) from error
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise RowError(f"{path}: surface_points has the shape {points.shape}; expected (N, 3).")
    return points


def surfels(points: Floats, radius: float = SURFEL_RADIUS) -> Mesh:
    """Return a tiny triangle at every point (N, 3): samples of it are draws from the points."""
    corner = radius * np.array([[1.0, 0.0, 0.0], [-0.5, 0.75, 0.5], [-0.5, -0.75, -0.5]])
    vertices = (points[:, None] + corner).reshape(-1, 3)
    return vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)


def _content(file: BinaryIO) -> Any:
    """Unpickle what follows the header, as ``numpy.save`` writes an array of one object."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY":
        raise ValueError(f"it begins with {magic!r}, not as a .npy file")
    length_bytes = 2 if magic[6] == 1 else 4
    header = file.read(int.from_bytes(file.read(length_bytes), "little"))
    if b"'|O'" not in header:
        raise ValueError(f"its header is {header[:80]!r}, no dict's")
    array = _ArraysOnly(file).load()
    return array.item() if isinstance(array, np.ndarray) else array


def _find(path: Path) -> dict[str, Path]:
    rooms = _list(path, "midi_room_ids.json")[-TEST_ROOMS:]
    scenes: dict[str, Path] = {}
    for room in rooms:
        for kind in ("3D-FRONT-SURFACE", "3D-FRONT-SCENE"):
            if (path / kind / room).is_dir():
                scenes.setdefault(room.replace("/", "-"), path / kind / room)
    return dict(sorted(scenes.items()))


def _read(folder: Path) -> ReadScene:
    root, room = folder.parents[2], "/".join(folder.parts[-2:])
    rooms, furniture = (_list(root, f"midi_{kind}_ids.json") for kind in ("room", "furniture"))
    names = furniture[rooms.index(room)]
    return ReadScene(tuple(_object(folder, name) for name in names))


def _object(folder: Path, name: str) -> Mesh | None:
    file = folder / f"{name}.npy"
    if file.is_file():
        return surfels(transform_points(Y_UP_TO_Z_UP, read_surface(file)))
    return one_mesh(folder / f"{name}.glb")


def _list(root: Path, name: str) -> list[Any]:
    path = root / name
    if not path.is_file():
        raise DatasetError(
            f"{path}: missing; it lists rooms or their objects. Expected the lists beside "
            "3D-FRONT-SURFACE, as published; copy them there."
        )
    entries = json.loads(path.read_text())
    if not isinstance(entries, list):
        raise DatasetError(f"{path}: holds a {type(entries).__name__}; expected a list.")
    return entries


FRONT3D = SceneFormat(_find, _read, (-1.0, 1.0))
