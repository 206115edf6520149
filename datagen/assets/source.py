"""Where objects come from: one protocol, and the function that opens a source by its name."""

from pathlib import Path
from typing import Protocol

from datagen.assets.objects import FetchedModel, SourceObject
from datagen.assets.procedural import ProceduralSource
from datagen.assets.sweethome3d import SweetHome3DSource
from datagen.errors import ConfigError

SOURCE_NAMES = ("procedural", "sweethome3d")


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


def open_source(
    name: str,
    path: Path | None = None,
    *,
    num_objects: int = 48,
    seed: int = 0,
    packs: tuple[str, ...] = (),
) -> AssetSource:
    """Return the source of that name.

    Args:
        name: one of SOURCE_NAMES.
        path: where the source's files are; procedural objects need none.
        num_objects: how many procedural objects to make.
        seed: of the procedural objects.
        packs: names of the Sweet Home 3D packs to read (without ``.sh3f``); empty reads all.

    Raises:
        ConfigError: unknown name, or a path that is missing or not wanted.
        DatasetError: nothing usable at the path.
    """
    if name == "procedural":
        if path is not None:
            raise ConfigError(
                f"assets: --source-path {path} was given with --source procedural, which reads no "
                "files. Leave the path out, or choose --source sweethome3d."
            )
        return ProceduralSource(num_objects=num_objects, seed=seed)
    if name == "sweethome3d":
        if path is None:
            raise ConfigError(
                "assets: --source sweethome3d needs a folder with .sh3f packs, got no path. "
                "Give it with --source-path FOLDER."
            )
        return SweetHome3DSource(path, packs)
    raise ConfigError(
        f"assets: unknown source {name!r}; the sources are {', '.join(SOURCE_NAMES)}. "
        "Choose one with --source."
    )
