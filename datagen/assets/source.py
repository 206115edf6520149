"""Sources of objects: their common protocol, and opening one by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from datagen.assets.folder import FolderSource
from datagen.assets.front3d import Front3DSource
from datagen.assets.objects import FetchedModel, SourceObject
from datagen.assets.procedural import ProceduralSource
from datagen.assets.sweethome3d import SweetHome3DSource
from datagen.errors import ConfigError

SourceName = Literal["procedural", "sweethome3d", "folder", "objaverse", "front3d"]
"""What ``--source`` takes: the names in SOURCES."""


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


@dataclass(frozen=True)
class SourceKind:
    """How a source is opened, and what it is opened with."""

    open: Callable[[SourceOptions], AssetSource]
    path: str = ""
    """What ``--source-path`` must be, in words; "" for a source without files."""
    options: frozenset[str] = frozenset()
    """The options that it uses, besides the path and those of every source."""


DEFAULT_PROCEDURAL_OBJECTS = 48


def open_source(name: str, options: SourceOptions | None = None) -> AssetSource:
    """Return the source with a name, one of SOURCES.

    Raises:
        ConfigError: the name is unknown, or an option is missing or belongs to another source.
        DatasetError: the path has no usable files.
    """
    given = options or SourceOptions()
    if name not in SOURCES:
        raise ConfigError(
            f"assets: unknown source {name!r}; the sources are {', '.join(SOURCES)}. "
            "Choose one with --source."
        )
    refuse_unused(name, given)
    kind = SOURCES[name]
    if kind.path and given.path is None:
        raise ConfigError(
            f"assets: --source {name} needs {kind.path}, got no path. "
            "Give it with --source-path FOLDER."
        )
    return kind.open(given)


def _open_procedural(options: SourceOptions) -> AssetSource:
    count = DEFAULT_PROCEDURAL_OBJECTS if options.num_objects is None else options.num_objects
    return ProceduralSource(num_objects=count, seed=options.seed)


def _open_objaverse(options: SourceOptions) -> AssetSource:
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


def _needed_path(options: SourceOptions) -> Path:
    assert options.path is not None, "open_source checks it"
    return options.path


SOURCES: dict[str, SourceKind] = {
    "procedural": SourceKind(_open_procedural),
    "sweethome3d": SourceKind(
        lambda options: SweetHome3DSource(_needed_path(options), options.packs),
        path="a folder with .sh3f packs",
        options=frozenset({"packs"}),
    ),
    "folder": SourceKind(
        lambda options: FolderSource(_needed_path(options)), path="a folder with model files"
    ),
    "objaverse": SourceKind(_open_objaverse, options=frozenset({"uids", "lvis_categories"})),
    "front3d": SourceKind(
        lambda options: Front3DSource(_needed_path(options)),
        path="the folder of 3D-FRONT as processed by MIDI",
    ),
}
"""All sources, by the name that ``--source`` takes."""


def refuse_unused(name: str, options: SourceOptions) -> None:
    """Check that no option is given that only other sources use.

    Raises:
        ConfigError: one is.
    """
    users = {"path": [source for source, kind in SOURCES.items() if kind.path]}
    for source, kind in SOURCES.items():
        for option in kind.options:
            users.setdefault(option, []).append(source)
    for option, sources in users.items():
        value = getattr(options, option)
        if value and name not in sources:
            flag = "--source-path" if option == "path" else f"--{option.replace('_', '-')}"
            given = value if isinstance(value, Path) else " ".join(value)
            raise ConfigError(
                f"assets: {flag} {given} was given with --source {name}, which does not use it. "
                f"Leave it out, or choose --source {' or '.join(sources)}."
            )
