"""``datagen export trellis``: what TRELLIS's dataset toolkit writes and its trainer reads.

In TRELLIS, an object has one canonical frame; here, each view has its own. So every kept view is
an entry: one camera, and the latent of the scene in the frame of that view. With ``instances``,
each instance is an entry too: the same camera and frame, the image of this instance alone, and
its latent at its place in the scene.
"""

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.core.frames import Floats, camera_to_world_gl, transform_points
from datagen.errors import DatasetError
from datagen.exports.parts import PARTS_FOLDER, part_name, read_parts, view_name, write_part
from datagen.shards import Folder, Row
from datagen.shards.workspace import Workspace
from datagen.voxels.drawing import png_bytes

AESTHETIC_SCORE = 10.0
"""TRELLIS drops entries without a score or below its threshold; this score is above it."""


@dataclass(frozen=True)
class Trellis:
    """Renders, latents and ``metadata.csv``.

    ``renders/<id>/{000.png, transforms.json}``, ``ss_latents/<encoder>/<id>.npz`` with ``mean``
    float32 (8, 16, 16, 16). In a local folder also ``renders_cond``, a link to ``renders``, where
    the trainer reads its conditioning images. ``id`` is ``LLLLLL_VVV``, layout and view; that of
    an instance is ``LLLLLL_VVV_instance_XX``, placement XX. Instances that the view does not show
    have no entry.
    """

    name: ClassVar[str] = "trellis"
    final: ClassVar[str | None] = "metadata.csv"
    has_instances: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("renders", "latents")

    workspace: Workspace
    out: Folder
    instances: bool = False

    @classmethod
    def of(cls, workspace: Workspace, out: Folder, *, instances: bool) -> Self:
        return cls(workspace, out, instances)

    def part(self, shard: int) -> str:
        return part_name(shard)

    def write_shard(self, shard: int, layout_ids: Sequence[int]) -> None:
        """Write a shard's entries, and their rows of ``metadata.csv`` as a part.

        Raises:
            DatasetError: the latents were not stored.
        """
        lines = []
        for layout_id in layout_ids:
            for render, latent in self.workspace.encoded_views(layout_id):
                for entry in entries(render, latent, instances=self.instances):
                    self._write_entry(entry, render, latent)
                    lines.append(_metadata(self._encoder, entry))
        write_part(self.out, shard, lines)

    def finish(self, shards: Sequence[int]) -> str:
        """Write ``metadata.csv`` and the link."""
        with tempfile.TemporaryDirectory() as scratch:
            table = Path(scratch) / "metadata.csv"
            count = _write_table(table, read_parts(self.out, shards))
            self.out.write_file(table.name, table)
        (self.out / PARTS_FOLDER).delete_folder()
        if not self.out.is_local:
            return f"{count} entries (copied to a disk, link renders_cond to renders)"
        link = self.out.path / "renders_cond"
        if not link.is_symlink():
            link.symlink_to("renders", target_is_directory=True)
        return f"{count} entries"

    @property
    def _encoder(self) -> str:
        latents = self.workspace.require("latents", f"export {self.name}")
        return Path(str(latents.fields["encoder"])).name

    def _write_entry(self, entry: "Entry", render: Row, latent: Row) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, mean=entry.latent.astype(np.float32))
        self.out.write_bytes(f"ss_latents/{self._encoder}/{entry.name}.npz", buffer.getvalue())
        self.out.write_bytes(f"renders/{entry.name}/000.png", entry.image)
        text = json.dumps(transforms(render, latent["world_to_canonical"]), indent=1)
        self.out.write_bytes(f"renders/{entry.name}/transforms.json", text.encode())


@dataclass(frozen=True)
class Entry:
    """One object of TRELLIS: a scene or an instance."""

    name: str
    image: bytes
    """PNG, RGBA."""
    latent: NDArray[np.float16]
    """(8, 16, 16, 16)."""
    num_voxels: int | None
    """None where the voxels were not stored."""


def entries(render: Row, latent: Row, *, instances: bool) -> Iterator[Entry]:
    """Yield a view's scene and, with ``instances``, each instance that the view shows.

    Raises:
        DatasetError: the latents were not stored.
    """
    if latent["scene_latent"] is None:
        raise DatasetError(
            f"export trellis: layout {render['layout_id']} has no latents, they were not stored. "
            "Encode with --store latents occupancy."
        )
    grids, name = latent["occupancy"], view_name(render)
    counts = [None] * (latent["num_instances"] + 1)
    if grids is not None:
        counts = np.unpackbits(grids, axis=1).sum(axis=1, dtype=np.int64).tolist()
    yield Entry(name, render["rgb"], latent["scene_latent"], counts[0])
    if not instances:
        return
    labels = np.asarray(Image.open(io.BytesIO(render["instance_map"])))
    rgba = np.asarray(Image.open(io.BytesIO(render["rgb"])).convert("RGBA"))
    for index, instance in enumerate(latent["instance_latents"]):
        alone = np.where((labels == index + 1)[..., None], rgba, np.uint8(0))
        if alone[..., 3].any():
            named = f"{name}_instance_{index:02d}"
            yield Entry(named, png_bytes(alone), instance, counts[index + 1])


def transforms(render: Row, world_to_canonical: Floats) -> dict[str, Any]:
    """Return a view's ``transforms.json``: its camera in the canonical frame, Blender's axes.

    ``scale`` and ``offset`` are those of TRELLIS: p_canonical = scale · p + offset, where p is
    the world point rotated about the up axis into the view's frame. ``world_to_canonical`` (4, 4)
    is the whole transform, rotation included.
    """
    scale = float(np.cbrt(np.linalg.det(world_to_canonical[:3, :3])))
    camera = camera_to_world_gl(render["world_to_camera"])
    moved = np.eye(4)
    moved[:3, :3] = world_to_canonical[:3, :3] / scale @ camera[:3, :3]
    moved[:3, 3] = transform_points(world_to_canonical, camera[None, :3, 3])[0]
    fov_rad = 2 * np.arctan(render["width"] / 2 / render["intrinsics"][0, 0])
    frame = {
        "file_path": "000.png",
        "camera_angle_x": float(fov_rad),
        "transform_matrix": moved.tolist(),
    }
    return {
        "aabb": [[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]],
        "scale": scale,
        "offset": world_to_canonical[:3, 3].tolist(),
        "world_to_canonical": world_to_canonical.tolist(),
        "frames": [frame],
    }


def _metadata(encoder: str, entry: Entry) -> dict[str, Any]:
    return {
        "sha256": entry.name,
        "file_identifier": entry.name,
        "aesthetic_score": AESTHETIC_SCORE,
        "rendered": True,
        "voxelized": False,
        "num_voxels": "" if entry.num_voxels is None else entry.num_voxels,
        "cond_rendered": True,
        f"ss_latent_{encoder}": True,
    }


def _write_table(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Write rows as CSV; return how many."""
    count = 0
    with path.open("w", newline="") as file:
        for count, row in enumerate(rows, 1):
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if count == 1:
                writer.writeheader()
            writer.writerow(row)
    return count
