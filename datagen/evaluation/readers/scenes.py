"""What every reader returns, and what a file format is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from datagen.core.frames import Y_UP_TO_Z_UP, Floats
from datagen.core.meshes import Mesh
from datagen.errors import DatasetError, RowError
from datagen.evaluation.readers.glb import merged, read_glb

MAX_LABEL = 1000
"""Labels are mask ids, 1, 2, …; larger ones are colours or hashes that name no instance."""


@dataclass(frozen=True)
class ReadScene:
    """One scene's instances, Z up, in the method's own unit."""

    meshes: tuple[Mesh | None, ...]
    """vertices (V, 3), faces (F, 3); None for one that is missing or has no surface."""

    left_out: tuple[str, ...] = ()
    """What the files hold beside instances, and was not read (a background)."""


@dataclass(frozen=True)
class SceneFormat:
    """One method's files on disk."""

    find: Callable[[Path], dict[str, Path]]
    """From the path that is given: scene ids, sorted, and where each one lies."""

    read: Callable[[Path], ReadScene]

    declared_range: tuple[float, float] | None
    """Lowest and highest coordinate that the method's cube has; None: metres, or anything."""

    match: Literal["order", "overlap"] = "order"
    """Whether instances come in the order of the masks."""


def folders_with(path: Path, pattern: str) -> dict[str, Path]:
    """Return the folder itself, or those below it, that hold a file of that pattern.

    A folder's scene id is its place below the given path with "-" for "/", or its name alone.
    """
    if path.is_dir() and any(path.glob(pattern)):
        return {path.name: path}
    levels = pattern.count("/") + 1
    folders = {file.relative_to(path).parts[:-levels] for file in _below(path, pattern)}
    return {"-".join(parts): path.joinpath(*parts) for parts in sorted(folders)}


def glb_files(path: Path) -> dict[str, Path]:
    """Return a folder's GLB files, or the one file given, by their stems."""
    if path.is_file():
        return {path.stem: path}
    return {file.stem: file for file in sorted(path.glob("*.glb"))}


def found_scenes(path: Path, file_format: SceneFormat, what: str) -> dict[str, Path]:
    """Return the scenes of a format at a path, by id.

    Args:
        path: a file or folder.
        file_format: of the scenes.
        what: the flag that gave the path, for messages.

    Raises:
        DatasetError: the path does not exist or holds no scene of the format.
    """
    if not path.exists():
        raise DatasetError(f"{what} {path}: no such file or folder; check the name.")
    scenes = file_format.find(path)
    if not scenes:
        names = [child.name for child in sorted(path.iterdir())[:3]] if path.is_dir() else []
        raise DatasetError(
            f"{what} {path}: holds no scene of that format (it begins with {names}). Expected one; "
            "see docs/evaluation.md for each method's files, and name another with --format."
        )
    return scenes


def by_label(labelled: dict[int, Mesh | None], path: Path) -> ReadScene:
    """Return a scene from instances by their mask labels, which start at 1.

    Labels between that are absent become missing instances.

    Args:
        labelled: vertices (V, 3) and faces (F, 3) by label; None without a surface.
        path: of the scene, for messages.

    Raises:
        RowError: a label is below 1 or above ``MAX_LABEL``, or no instance has a surface.
    """
    if min(labelled) < 1 or max(labelled) > MAX_LABEL:
        raise RowError(
            f"{path}: instances are labelled {min(labelled)} to {max(labelled)}; expected the "
            f"masks' numbers, 1 to at most {MAX_LABEL}. Renumber the files."
        )
    meshes = tuple(labelled.get(label) for label in range(1, max(labelled) + 1))
    return require_surface(ReadScene(meshes), path)


def one_mesh(path: Path, to_z_up: Floats = Y_UP_TO_Z_UP) -> Mesh | None:
    """Return the content of an instance's GLB as one mesh, Z up; None if it has no surface.

    Args:
        path: of the file.
        to_z_up: (4, 4), the file's frame to Z up.

    Returns:
        Vertices (V, 3) and faces (F, 3).

    Raises:
        RowError: the file is missing or damaged.
    """
    return merged([mesh for _, mesh in read_glb(path, to_z_up, may_be_empty=True)])


def require_surface(scene: ReadScene, path: Path) -> ReadScene:
    """Return the scene.

    Raises:
        RowError: none of its instances has a surface.
    """
    if all(mesh is None for mesh in scene.meshes):
        raise RowError(
            f"{path}: none of the {len(scene.meshes)} instances has a triangle with an area; "
            "expected at least one. The method may have failed on this scene."
        )
    return scene


def reach(scene: ReadScene) -> tuple[float, float]:
    """Return the lowest and highest coordinate of a scene's instances; it has one."""
    points = _points(scene)
    return float(points.min()), float(points.max())


def extent(scene: ReadScene) -> float:
    """Return the longest side of a scene's box; the scene has an instance."""
    return float(np.ptp(_points(scene), axis=0).max())


def _points(scene: ReadScene) -> Floats:
    return np.concatenate([m[0][np.unique(m[1])] for m in scene.meshes if m is not None])


def _below(path: Path, pattern: str) -> list[Path]:
    return [file for depth in ("*", "*/*") for file in path.glob(f"{depth}/{pattern}")]
