"""``datagen export trellis``: what TRELLIS's dataset toolkit writes and its trainer reads.

TRELLIS knows objects in one canonical frame; here the frame belongs to the view. So every kept
view becomes an entry of its own: one frame, and the latent of the scene as that view sees it.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from datagen.core.frames import Floats, camera_to_world_gl, transform_points
from datagen.errors import DatasetError
from datagen.exports.views import Views, claim, view_name
from datagen.shards import Row
from datagen.shards.storage import write_atomically

AESTHETIC_SCORE = 10.0
"""TRELLIS drops entries below its threshold, and those without a score: these are kept."""


def export_trellis(views: Views, out: Path) -> int:
    """Write renders, latents and ``metadata.csv``; entries that are there are kept.

    ``renders/<id>/{000.png, transforms.json}``, ``ss_latents/<encoder>/<id>.npz`` with ``mean``
    float32 (8, 16, 16, 16), and ``renders_cond``, a link to ``renders``: the trainer takes its
    conditioning pictures there. ``id`` is ``LLLLLL_VVV``, layout and view.

    Returns:
        The number of entries.

    Raises:
        DatasetError: the latents were not stored.
    """
    assert views.latents is not None, "this export is one of latents"
    claim(out, "trellis", [views.renders, views.latents])
    encoder = Path(str(views.latents.fields["encoder"])).name
    rows = []
    for _, layouts in views.shards():
        for layout_id in layouts:
            for render, latent in views.of_layout(layout_id):
                assert latent is not None, layout_id
                _write_entry(out, encoder, render, latent)
                rows.append(_metadata(encoder, render, latent))
    _write_metadata(out / "metadata.csv", rows)
    link = out / "renders_cond"
    if not link.is_symlink():
        link.symlink_to("renders", target_is_directory=True)
    return len(rows)


def transforms(render: Row, world_to_canonical: Floats) -> dict[str, Any]:
    """Return a view's ``transforms.json``: its camera in the canonical frame, Blender's axes.

    ``scale`` and ``offset`` are TRELLIS's, and as there p_canonical = scale · p + offset; p is the
    world point turned about the up axis into the view's frame. ``world_to_canonical`` has all.
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


def _write_entry(out: Path, encoder: str, render: Row, latent: Row) -> None:
    name = view_name(render)
    last = out / "renders" / name / "transforms.json"
    if last.exists():
        return
    if latent["scene_latent"] is None:
        raise DatasetError(
            f"export trellis: layout {render['layout_id']} has no latents, they were not stored. "
            "Encode with --store latents,occupancy."
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, mean=latent["scene_latent"].astype(np.float32))
    write_atomically(out / "ss_latents" / encoder / f"{name}.npz", buffer.getvalue())
    write_atomically(last.parent / "000.png", render["rgb"])
    text = json.dumps(transforms(render, latent["world_to_canonical"]), indent=1)
    write_atomically(last, text.encode())


def _metadata(encoder: str, render: Row, latent: Row) -> dict[str, Any]:
    occupancy = latent["occupancy"]
    voxels = "" if occupancy is None else int(np.unpackbits(occupancy[0]).sum())
    return {
        "sha256": view_name(render),
        "file_identifier": view_name(render),
        "aesthetic_score": AESTHETIC_SCORE,
        "rendered": True,
        "voxelized": False,
        "num_voxels": voxels,
        "cond_rendered": True,
        f"ss_latent_{encoder}": True,
    }


def _write_metadata(path: Path, rows: list[dict[str, Any]]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())
