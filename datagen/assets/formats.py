"""The model formats that Blender reads: what their coordinates mean, and which files belong to one.

blender_scripts/importers.py has the importer of each.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from datagen.assets.objects import ImportOptions
from datagen.core.frames import Y_UP_TO_Z_UP

METRES = 1.0
GLB_HEADER_BYTES = 20
"""Magic, version, length (glTF 2.0, 4.4.2), then length and type of the JSON chunk."""


@dataclass(frozen=True)
class Format:
    """What a format says of its coordinates."""

    up_axis: str
    """"Y" or "Z" where the importer takes the file's numbers as they are; "own" where the file
    says it and the importer obeys."""
    unit_m: float | None
    """Metres per unit, after the importer; None where the format says nothing."""
    linked: "Callable[[Path], Iterator[str]] | None" = None
    """Yields the names of other files that belong to a model."""
    alone: bool = False
    """Blender's importer uses memory that it has freed: what comes of a file would depend on the
    files before it, so that it gets a Blender of its own."""

    def options(self, up_axis: str | None, unit_m: float | None) -> ImportOptions:
        """Return the options of a file of this format.

        Args:
            up_axis: "Y" or "Z" where somebody knows better than the format.
            unit_m: metres per unit; None for an unknown one.
        """
        if self.up_axis != "own":
            axis = up_axis or self.up_axis
            return ImportOptions(up_axis="Z" if axis == "Z" else "Y", unit_m=unit_m)
        # The importer made it Z up; one that says so wrongly is turned once more.
        turn = tuple(Y_UP_TO_Z_UP[:3, :3].ravel().tolist()) if up_axis == "Y" else None
        return ImportOptions(rotation=turn, unit_m=unit_m)


def obj_links(path: Path) -> Iterator[str]:
    """Yield the material libraries of an OBJ file and the pictures that they name."""
    for library in re.findall(r"(?m)^\s*mtllib\s+(.+?)\s*$", read_text(path)):
        yield library
        material = path.parent / library
        if is_file(material):
            lines = re.findall(
                r"(?mi)^\s*(?:map_\w+|bump|disp|decal|refl|norm)\s+(.+?)\s*$", read_text(material)
            )
            # Options such as "-s 1 1 1" stand before the name.
            yield from (line if is_file(path.parent / line) else line.split()[-1] for line in lines)


def gltf_links(path: Path) -> Iterator[str]:
    """Yield the buffers and pictures of a glTF or GLB file that lie beside it."""
    data = path.read_bytes()
    if data[:4] == b"glTF":
        length = int.from_bytes(data[12:16], "little")
        data = data[GLB_HEADER_BYTES : GLB_HEADER_BYTES + length]
    try:
        content: Any = json.loads(data)
    except ValueError:
        return  # broken, and Blender will say so
    for kind in ("buffers", "images"):
        entries = content.get(kind) if isinstance(content, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            uri = entry.get("uri") if isinstance(entry, dict) else None
            if isinstance(uri, str) and not uri.startswith("data:"):
                yield unquote(uri)


def dae_links(path: Path) -> Iterator[str]:
    """Yield the pictures of a COLLADA file."""
    for name in re.findall(r"<init_from>\s*([^<]+?)\s*</init_from>", read_text(path)):
        yield unquote(name.removeprefix("file://"))


def usd_links(path: Path) -> Iterator[str]:
    """Yield the assets that a USD file written as text refers to."""
    with path.open("rb") as file:
        if file.read(5) == b"#usda":
            yield from re.findall(r"@([^@\n]+)@", read_text(path))


FORMATS = {
    ".glb": Format("Y", METRES, gltf_links),
    ".gltf": Format("Y", METRES, gltf_links),
    ".obj": Format("Y", None, obj_links),
    ".stl": Format("Z", None),
    ".ply": Format("Z", None),
    ".fbx": Format("own", METRES),
    ".dae": Format("own", METRES, dae_links, alone=True),
    ".usd": Format("own", METRES, usd_links),
    ".usda": Format("own", METRES, usd_links),
    ".usdc": Format("own", METRES),
    ".usdz": Format("own", METRES),
    ".abc": Format("own", None),
    ".blend": Format("own", METRES),
}
"""By suffix in lower case."""


def model_files(path: Path) -> dict[str, Path]:
    """Return a model file and what belongs to it by the names that the file uses.

    The model itself is named by its suffix alone. Files that are missing are left out, and so
    are those that FBX, BLEND and binary USD files name: they are pictures, mostly.
    """
    files = {path.suffix.lower(): path}
    links = FORMATS[path.suffix.lower()].linked
    for name in links(path) if links else ():
        if is_file(path.parent / name):
            files[name] = path.parent / name
    return files


def is_file(path: Path) -> bool:
    """Say whether a name, which may be any nonsense, is that of a file."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def read_text(path: Path) -> str:
    """Return a file's text; what is no text becomes question marks."""
    return path.read_text("utf-8", errors="replace")
