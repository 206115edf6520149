"""Sources of objects: their common protocol, and opening one by its name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datagen.assets.folder import FolderSource
from datagen.assets.front3d import Front3DSource
from datagen.assets.objects import FetchedModel, SourceObject
from datagen.assets.procedural import ProceduralSource
from datagen.assets.sweethome3d import SweetHome3DSource
from datagen.errors import ConfigError

SOURCE_NAMES = ("procedural", "sweethome3d", "folder", "objaverse", "front3d")


class AssetSource(Protocol):
    """A list of objects and access to their model files."""

    @property
    def name(self) -> str:
        """The source's name on the command line (``--source``)."""

    def fingerprint(self) -> str:
        """Return a sha256 that changes if any listed object changes."""

    def list_objects(self) -> list[SourceObject]:
        """Return every object, always in the same order. asset_ids are unique."""

    def fetch(self, obj: SourceObject, folder: Path) -> FetchedModel:
        """Return the model file of one object; RowError if it is missing or broken.

        Args:
            obj: one of the listed objects.
            folder: an empty folder for files that have to be written.
        """


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Options of all sources. A source refuses the options of other sources."""

    path: Path | None = None
    """Folder or file of the source."""
    num_objects: int | None = None
    """procedural: number of objects to make. objaverse: number of objects to choose."""
    seed: int = 0
    """Seed of procedural objects and of the random choice from objaverse."""
    packs: tuple[str, ...] = ()
    """sweethome3d: names of the packs to read, without ``.sh3f``; empty: all packs."""
    uids: Path | None = None
    """objaverse: a file with one uid per line."""
    lvis_categories: tuple[str, ...] = ()
    """objaverse: LVIS categories to use."""
    licenses: tuple[str, ...] = ()
    """objaverse: SPDX identifiers to which a random choice is limited; empty: any license."""


DEFAULT_PROCEDURAL_OBJECTS = 48


def open_source(name: str, options: SourceOptions | None = None) -> AssetSource:
    """Return the source with a name, one of SOURCE_NAMES.

    Raises:
        ConfigError: the name is unknown, or an option is missing or belongs to another source.
        DatasetError: the path has no usable files.
    """
    given = options or SourceOptions()
    if name not in SOURCE_NAMES:
        raise ConfigError(
            f"assets: unknown source {name!r}; the sources are {', '.join(SOURCE_NAMES)}. "
            "Choose one with --source."
        )
    refuse_unused(name, given)
    if name == "procedural":
        count = DEFAULT_PROCEDURAL_OBJECTS if given.num_objects is None else given.num_objects
        return ProceduralSource(num_objects=count, seed=given.seed)
    if name == "objaverse":
        return open_objaverse(given)
    if given.path is None:
        raise ConfigError(
            f"assets: --source {name} needs {CONTENT[name]}, got no path. "
            "Give it with --source-path FOLDER."
        )
    if name == "sweethome3d":
        return SweetHome3DSource(given.path, given.packs)
    return FolderSource(given.path) if name == "folder" else Front3DSource(given.path)


def open_objaverse(options: SourceOptions) -> AssetSource:
    """Return the objaverse source."""
    # Imported here because the package chooses its cache folder at import.
    from datagen.assets.objaverse import ObjaverseChoice, ObjaverseSource

    return ObjaverseSource(
        ObjaverseChoice(
            options.uids,
            options.lvis_categories,
            options.num_objects,
            options.licenses,
            options.seed,
        )
    )


CONTENT = {
    "sweethome3d": "a folder with .sh3f packs",
    "folder": "a folder with model files",
    "front3d": "the folder of 3D-FRONT as processed by MIDI",
}
"""What --source-path must be, by source."""

USED_BY = {
    "path": tuple(CONTENT),
    "packs": ("sweethome3d",),
    "uids": ("objaverse",),
    "lvis_categories": ("objaverse",),
}
"""The sources that use an option; others would ignore it."""


def refuse_unused(name: str, options: SourceOptions) -> None:
    """Raise ConfigError if an option is given that the source does not use."""
    for option, users in USED_BY.items():
        value = getattr(options, option)
        if value and name not in users:
            flag = "--source-path" if option == "path" else f"--{option.replace('_', '-')}"
            given = value if isinstance(value, Path) else " ".join(value)
            raise ConfigError(
                f"assets: {flag} {given} was given with --source {name}, which does not use it. "
                f"Leave it out, or choose --source {' or '.join(users)}."
            )
