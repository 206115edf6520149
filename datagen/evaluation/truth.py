"""True scenes to score against: a workspace's views, or files in a format of ``readers.TRUE``."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from datagen.errors import RowError
from datagen.evaluation.readers import TRUE, ReadScene, SceneFormat, found_scenes
from datagen.shards.workspace import Workspace

GtFormat = Literal["auto", "workspace", "3dfront", "glb"]

WORKSPACE_INPUTS = ("assets", "layouts", "latents")
_VIEW = re.compile(r"(\d+)_(\d+)")


class Truth(Protocol):
    """True scenes, by id."""

    @property
    def format(self) -> SceneFormat:
        """The format that the scenes are read from."""
        ...

    @property
    def whole(self) -> bool:
        """Whether every scene needs a prediction; False for a workspace's views."""
        ...

    def ids(self) -> set[str]:
        """Return the ids of all scenes."""
        ...

    def read(self, scene_id: str) -> ReadScene:
        """Return a scene.

        Raises:
            RowError: it is missing or damaged.
        """
        ...

    def seen(self, scene_id: str) -> list["Seen"] | None:
        """Return how much the image shows of each true instance; None if there is no image."""
        ...

    def fingerprint(self, scene_ids: Iterable[str]) -> str:
        """Return a hash of the content of scenes."""
        ...


@dataclass(frozen=True)
class Seen:
    """How much a view shows of one true instance."""

    mask_share: float
    """Share of the image's pixels whose first hit it is."""

    visible_share: float
    """Share of the pixels that it would have alone, that nothing hides."""


def seen_instances(workspace: Workspace, layout_id: int, view_index: int) -> list[Seen] | None:
    """Return how much a rendered view shows of each placement; None if there is no such view."""
    columns = ["width", "height", "visible_px", "amodal_px"]
    view = workspace.view(layout_id, view_index, columns)
    if view is None:
        return None
    pixels = view["width"] * view["height"]
    both = zip(view["visible_px"], view["amodal_px"], strict=True)
    return [Seen(visible / pixels, visible / max(alone, 1)) for visible, alone in both]


def open_truth(path: Path, file_format: GtFormat) -> Truth:
    """Return the truth that lies at a path.

    Raises:
        DatasetError: there is none, or a workspace lacks what it needs.
    """
    if file_format == "workspace" or (
        file_format == "auto" and Workspace.at(path).dataset("layouts") is not None
    ):
        return WorkspaceTruth(path)
    if file_format == "auto":
        file_format = "3dfront" if (path / "midi_room_ids.json").exists() else "glb"
    return FileTruth(TRUE[file_format], found_scenes(path, TRUE[file_format], "--gt"))


@dataclass(frozen=True)
class FileTruth:
    """Scenes in files."""

    format: SceneFormat
    places: dict[str, Path]
    whole: bool = True

    def ids(self) -> set[str]:
        return set(self.places)

    def read(self, scene_id: str) -> ReadScene:
        return self.format.read(self.places[scene_id])

    def seen(self, scene_id: str) -> None:
        """Files hold no masks."""

    def fingerprint(self, scene_ids: Iterable[str]) -> str:
        return digest_of(self.places[scene_id] for scene_id in scene_ids)


class WorkspaceTruth:
    """The encoded views of a workspace, ids ``<layout_id>_<view_index>``, in the view's frame."""

    whole = False

    def __init__(self, path: Path) -> None:
        self._workspace = Workspace.at(path)
        self._inputs = {
            name: self._workspace.require(name, f"--gt {path}") for name in WORKSPACE_INPUTS
        }
        self.format = SceneFormat(lambda path: {}, lambda path: ReadScene(()), (-0.5, 0.5))

    def ids(self) -> set[str]:
        rows = self._inputs["latents"].rows(["layout_id", "view_index"])
        return {f"{row['layout_id']}_{row['view_index']}" for row in rows}

    def read(self, scene_id: str) -> ReadScene:
        """Return a view's placements, canonical frame.

        Raises:
            RowError: the id is no view's, or the view is not there.
        """
        layout_id, view_index = _view_of(scene_id)
        layout = self._workspace.layout(layout_id)
        latent = self._workspace.latent(layout_id, view_index, ["world_to_canonical"])
        if layout is None or latent is None:
            raise RowError(f"scene {scene_id}: the workspace has no such encoded view.")
        scene = self._workspace.scene_meshes(layout)
        return ReadScene(tuple(scene.transformed(latent["world_to_canonical"])))

    def seen(self, scene_id: str) -> list[Seen] | None:
        return seen_instances(self._workspace, *_view_of(scene_id))

    def fingerprint(self, scene_ids: Iterable[str]) -> str:
        return "-".join(dataset.fingerprint for dataset in self._inputs.values())


def _view_of(scene_id: str) -> tuple[int, int]:
    matched = _VIEW.fullmatch(scene_id)
    if matched is None:
        raise RowError(f"scene {scene_id}: expected <layout_id>_<view_index>.")
    return int(matched[1]), int(matched[2])


def digest_of(places: Iterable[Path]) -> str:
    """Return the sha256 over the names and bytes of files, and of those below folders."""
    digest = hashlib.sha256()
    for place in places:
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in files:
            if file.is_file():
                digest.update(f"{file.relative_to(place.parent)}\0".encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
