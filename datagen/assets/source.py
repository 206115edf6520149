"""Where objects come from: one protocol, and the function that opens a source by its name."""

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
    """A list of objects and a way to get each one's model file."""

    @property
    def name(self) -> str:
        """The word that ``--source`` takes."""

    def fingerprint(self) -> str:
        """Return a sha256 that changes when any listed object may have changed."""

    def list_objects(self) -> list[SourceObject]:
        """Return every object, in an order that never changes; asset_ids are unique."""

    def fetch(self, obj: SourceObject, folder: Path) -> FetchedModel:
        """Put one object's files into a folder; RowError when this object's files are broken."""


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What opening a source may need; each source takes its own and refuses the others."""

    path: Path | None = None
    """Where the source's files are."""
    num_objects: int | None = None
    """procedural: how many to make; objaverse: how many to draw."""
    seed: int = 0
    """Of procedural objects and of objaverse's draw."""
    packs: tuple[str, ...] = ()
    """sweethome3d: names of the packs to read (without ``.sh3f``); empty reads all."""
    uids: Path | None = None
    """objaverse: a file with one uid a line."""
    lvis_categories: tuple[str, ...] = ()
    """objaverse: categories to take."""
    licenses: tuple[str, ...] = ()
    """objaverse: SPDX identifiers that a draw is made from; empty: any."""


DEFAULT_PROCEDURAL_OBJECTS = 48


def open_source(name: str, options: SourceOptions | None = None) -> AssetSource:
    """Return the source of that name.

    Raises:
        ConfigError: unknown name, or an option that is missing or not wanted.
        DatasetError: nothing usable at the path.
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
    # The package decides at its import where its cache is, and only this source needs it.
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
"""What --source-path names."""

READ_BY = {
    "path": tuple(CONTENT),
    "packs": ("sweethome3d",),
    "uids": ("objaverse",),
    "lvis_categories": ("objaverse",),
}
"""Which sources read an option that others would ignore."""


def refuse_unused(name: str, options: SourceOptions) -> None:
    """Raise a ConfigError for an option that the source does not read."""
    for option, readers in READ_BY.items():
        value = getattr(options, option)
        if value and name not in readers:
            flag = "--source-path" if option == "path" else f"--{option.replace('_', '-')}"
            words = value if isinstance(value, Path) else " ".join(value)
            raise ConfigError(
                f"assets: {flag} {words} was given with --source {name}, which reads no such "
                f"thing. Leave it out, or choose --source {' or '.join(readers)}."
            )
