"""Source ``sweethome3d``: furniture packs (``.sh3f``), zip files of OBJ models with real sizes.

A pack has a catalogue with the keys of com.eteks.sweethome3d.io.DefaultFurnitureCatalog. Models
are Y up. ``modelRotation`` rotates a model; its box is then stretched to width × height × depth.
"""

import hashlib
import logging
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from datagen.assets.licenses import UNKNOWN_LICENSE, license_of_text
from datagen.assets.objects import FetchedModel, ImportOptions, SourceObject, file_asset_id
from datagen.errors import DatasetError, RowError

logger = logging.getLogger(__name__)

CATALOGUE = "PluginFurnitureCatalog.properties"
SIDES = ("width", "depth", "height")


class SweetHome3DSource:
    """The objects of one pack, or of every pack in a folder.

    Args:
        path: a pack or a folder of packs.
        packs: names of the packs to read, without ``.sh3f``; empty: all.

    Raises:
        DatasetError: there is no pack, or none of a given name.
    """

    name = "sweethome3d"

    def __init__(self, path: Path, packs: tuple[str, ...] = ()) -> None:
        self.packs = find_packs(path, packs)

    def fingerprint(self) -> str:
        """Return the sha256 over the packs' names and bytes."""
        digest = hashlib.sha256()
        for pack in self.packs:
            with pack.open("rb") as file:
                digest.update(f"{pack.stem}\0".encode())
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def list_objects(self) -> list[SourceObject]:
        """Return the objects in catalogue order; entries with equal model and size count once."""
        objects: dict[str, SourceObject] = {}
        num_repeated = 0
        for pack in self.packs:
            for obj in list_pack(pack):
                num_repeated += obj.asset_id in objects
                objects.setdefault(obj.asset_id, obj)
        if num_repeated:
            logger.info(f"assets: {num_repeated} catalogue entries repeat another's model and size")
        if not objects:
            names = ", ".join(pack.name for pack in self.packs)
            raise DatasetError(
                f"{names}: the catalogue lists no object with a model, a width, a depth and a "
                "height. Expected at least one; use another pack."
            )
        return list(objects.values())

    def fetch(self, obj: SourceObject, folder: Path) -> FetchedModel:
        """Unpack the folder of one object's OBJ file; RowError if the pack lacks that file."""
        pack_name, _, model = obj.uid.partition("/")
        pack = next(pack for pack in self.packs if pack.stem == pack_name)
        model_name = model.rpartition("#")[0]
        with open_pack(pack) as archive:
            for name, data in pack_model_files(archive, model_name):
                target = folder / PurePosixPath(name).relative_to(PurePosixPath(model_name).parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        path = folder / PurePosixPath(model_name).name
        if not path.exists():
            raise RowError(f"{pack}: no file {model_name}")
        return FetchedModel(path, obj.options)


def find_packs(path: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the .sh3f files at a path, sorted by name.

    Args:
        path: a pack or a folder of packs.
        names: the packs to return, without ``.sh3f``; empty: all.

    Raises:
        DatasetError: there is no pack, or none of a given name.
    """
    if not path.exists():
        raise DatasetError(
            f"{path}: no such file or folder. Expected Sweet Home 3D packs (*.sh3f) there; "
            "correct --source-path, or get Debian's package sweethome3d-furniture."
        )
    packs = [path] if path.is_file() else sorted(path.glob("*.sh3f"))
    if not packs:
        raise DatasetError(
            f"{path}: the folder holds no .sh3f file. Expected Sweet Home 3D packs; "
            "correct --source-path, or get Debian's package sweethome3d-furniture."
        )
    missing = sorted(set(names) - {pack.stem for pack in packs})
    if missing:
        raise DatasetError(
            f"{path}: no pack named {', '.join(missing)}. The packs there are "
            f"{', '.join(pack.stem for pack in packs)}; choose among them with --packs."
        )
    return [pack for pack in packs if not names or pack.stem in names]


def list_pack(pack: Path) -> Iterator[SourceObject]:
    """Yield the objects of one pack, also those whose model file is missing."""
    with open_pack(pack) as archive:
        entries = group_by_index(read_properties(archive.read(CATALOGUE).decode("latin-1")))
        license_id = pack_license(archive)
        for index, entry in sorted(entries.items()):
            if not {"model", *SIDES} <= entry.keys():
                continue
            options = import_options(entry)
            model = entry["model"].lstrip("/")
            yield SourceObject(
                uid=f"{pack.stem}/{model}#{index}",
                name=entry.get("name", PurePosixPath(model).stem),
                category=entry.get("category", ""),
                license=license_of_text(entry["license"]) if "license" in entry else license_id,
                author=entry.get("creator", ""),
                asset_id=file_asset_id(pack_model_files(archive, model), options),
                options=options,
            )


@contextmanager
def open_pack(pack: Path) -> Iterator[zipfile.ZipFile]:
    """Open a pack; DatasetError if it is not a zip file or has no catalogue."""
    try:
        archive = zipfile.ZipFile(pack)
    except (zipfile.BadZipFile, OSError) as error:
        raise DatasetError(
            f"{pack}: cannot be read as a Sweet Home 3D pack ({error}). Expected a zip file; "
            "download the pack again."
        ) from error
    with archive:
        if CATALOGUE not in archive.namelist():
            raise DatasetError(
                f"{pack}: holds no {CATALOGUE}. Expected a Sweet Home 3D furniture library; "
                "remove the file or choose packs with --packs."
            )
        yield archive


def pack_model_files(archive: zipfile.ZipFile, model: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the files in a model's folder, except other OBJ files."""
    folder = f"{PurePosixPath(model).parent}/"
    for name in sorted(archive.namelist()):
        is_other_model = name.lower().endswith(".obj") and name != model
        if name.startswith(folder) and not name.endswith("/") and not is_other_model:
            yield name, archive.read(name)


def import_options(entry: dict[str, str]) -> ImportOptions:
    """Return the import options of one catalogue entry, whose sides are in centimetres."""
    rotation = entry.get("modelRotation")
    width, depth, height = (round(float(entry[side]) / 100, 6) for side in SIDES)
    return ImportOptions(
        size_m=(width, depth, height),
        rotation=tuple(float(word) for word in rotation.split()) if rotation else None,
    )


def pack_license(archive: zipfile.ZipFile) -> str:
    """Return the SPDX identifier of a pack's license file, or UNKNOWN_LICENSE."""
    for name in archive.namelist():
        if name.lower() in ("license.txt", "license"):
            return license_of_text(archive.read(name).decode("latin-1"))
    return UNKNOWN_LICENSE


def group_by_index(properties: dict[str, str]) -> dict[int, dict[str, str]]:
    """Return the properties of each object: ``{"name#3": x}`` becomes ``{3: {"name": x}}``."""
    entries: dict[int, dict[str, str]] = defaultdict(dict)
    for key, value in properties.items():
        name, _, index = key.partition("#")
        if index.isdigit():
            entries[int(index)][name] = value
    return entries


def read_properties(text: str) -> dict[str, str]:
    """Return the keys and values of a Java properties file (see java.util.Properties.load)."""
    properties: dict[str, str] = {}
    # A line with an odd number of backslashes at its end continues in the next line.
    joined = re.sub(r"(?<!\\)((?:\\\\)*)\\\r?\n[ \t\f]*", r"\1", text)
    for line in joined.splitlines():
        stripped = line.lstrip(" \t\f")
        if not stripped or stripped[0] in "#!":
            continue
        match = re.match(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", stripped)
        assert match is not None, stripped
        properties[unescape(match[1])] = unescape(match[2])
    return properties


def unescape(text: str) -> str:
    r"""Return a text with its escapes resolved: ``\uXXXX``, ``\n``, ``\t``, and ``\x`` as x."""

    def resolve(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        return {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}.get(match[2], match[2])

    return re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", resolve, text)
