"""The model formats that Blender reads: their axes, units and linked files.

blender_scripts/importers.py has an importer for each.
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
"""Magic, version and length (glTF 2.0, 4.4.2), then length and type of the JSON chunk."""


@dataclass(frozen=True)
class ModelFormat:
    """Axes, unit and linked files of one format."""

    up_axis: str
    """"Y" or "Z": the format's own, which the importer leaves as it is. "own": the file names its
    up axis, and the importer rotates it to Z."""
    unit_m: float | None
    """Metres per unit after the import; None if the format has no unit."""
    linked: "Callable[[Path], Iterator[str]] | None" = None
    """Yields the names of other files that belong to a model."""
    alone: bool = False
    """Each file is imported in a fresh Blender. The importer uses freed memory, so the result
    would depend on the files imported before."""

    def options(self, up_axis: str | None, unit_m: float | None) -> ImportOptions:
        """Return the options of a file of this format.

        Args:
            up_axis: "Y" or "Z" overrides the format; None keeps it.
            unit_m: metres per unit; None for an unknown one.
        """
        if self.up_axis != "own":
            axis = up_axis or self.up_axis
            return ImportOptions(up_axis="Z" if axis == "Z" else "Y", unit_m=unit_m)
        # The importer made it Z up; a file that names the wrong axis is rotated once more.
        rotation = tuple(Y_UP_TO_Z_UP[:3, :3].ravel().tolist()) if up_axis == "Y" else None
        return ImportOptions(rotation=rotation, unit_m=unit_m)


def obj_links(path: Path) -> Iterator[str]:
    """Yield the material libraries of an OBJ file and the images that they name."""
    for library in re.findall(r"(?m)^\s*mtllib\s+(.+?)\s*$", read_text(path)):
        yield library
        material = path.parent / library
        if is_file(material):
            lines = re.findall(
                r"(?mi)^\s*(?:map_\w+|bump|disp|decal|refl|norm)\s+(.+?)\s*$", read_text(material)
            )
            # Options such as "-s 1 1 1" precede the name.
            yield from (line if is_file(path.parent / line) else line.split()[-1] for line in lines)


def gltf_links(path: Path) -> Iterator[str]:
    """Yield the buffers and images that a glTF or GLB file keeps in other files."""
    data = path.read_bytes()
    if data[:4] == b"glTF":
        length = int.from_bytes(data[12:16], "little")
        data = data[GLB_HEADER_BYTES : GLB_HEADER_BYTES + length]
    try:
        content: Any = json.loads(data)
    except ValueError:
        return  # broken: Blender will report it
    for kind in ("buffers", "images"):
        entries = content.get(kind) if isinstance(content, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            uri = entry.get("uri") if isinstance(entry, dict) else None
            if isinstance(uri, str) and not uri.startswith("data:"):
                yield unquote(uri)


def dae_links(path: Path) -> Iterator[str]:
    """Yield the images of a COLLADA file."""
    for name in re.findall(r"<init_from>\s*([^<]+?)\s*</init_from>", read_text(path)):
        yield unquote(name.removeprefix("file://"))


def usd_links(path: Path) -> Iterator[str]:
    """Yield the files that a USD file in text form refers to."""
    with path.open("rb") as file:
        if file.read(5) == b"#usda":
            yield from re.findall(r"@([^@\n]+)@", read_text(path))


FORMATS = {
    ".glb": ModelFormat("Y", METRES, gltf_links),
    ".gltf": ModelFormat("Y", METRES, gltf_links),
    ".obj": ModelFormat("Y", None, obj_links),
    ".stl": ModelFormat("Z", None),
    ".ply": ModelFormat("Z", None),
    ".fbx": ModelFormat("own", METRES),
    ".dae": ModelFormat("own", METRES, dae_links, alone=True),
    ".usd": ModelFormat("own", METRES, usd_links),
    ".usda": ModelFormat("own", METRES, usd_links),
    ".usdc": ModelFormat("own", METRES),
    ".usdz": ModelFormat("own", METRES),
    ".abc": ModelFormat("own", None),
    ".blend": ModelFormat("own", METRES),
}
"""By suffix in lower case."""


def model_files(path: Path) -> dict[str, Path]:
    """Return a model file and the existing files that it links, by the names that it uses.

    The model itself has its suffix as its name. Links of FBX, BLEND and binary USD files are left
    out; most of them are images.
    """
    files = {path.suffix.lower(): path}
    links = FORMATS[path.suffix.lower()].linked
    for name in links(path) if links else ():
        if is_file(path.parent / name):
            files[name] = path.parent / name
    return files


def is_file(path: Path) -> bool:
    """Return whether a path, which may be invalid, is that of an existing file."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def read_text(path: Path) -> str:
    """Return a file's text; invalid UTF-8 becomes replacement characters."""
    return path.read_text("utf-8", errors="replace")
