"""A sampled scene with its textures, as our own Blender renders it: for people, beside the input.

Blender runs as a process of its own; a picture that it cannot make is no reason to lose a scene.
"""

import io
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.assets.objects import ImportOptions
from datagen.blender import BlenderProcess, PreparedPlacement, RenderJob, RenderView, render_views
from datagen.core.cameras import distance_to_frame, intrinsics_from_fov, look_at
from datagen.errors import RowError

SIZE_PX = 384
FOV_RAD = np.deg2rad(40.0)
TOWARDS_CAMERA = np.array([8.0, -16.0, 10.0])
"""Of the voxels' pictures too: from the -Y side, a little from the right and from above."""
PREPARE_TIMEOUT_S = 300.0


def render_textured(blender: BlenderProcess, glb: Path, samples: int = 16) -> NDArray[np.uint8]:
    """Return a picture (S, S, 4), straight alpha, sRGB, of a textured scene's GLB.

    Args:
        blender: the process that renders.
        glb: Y up, with at least one triangle.
        samples: Cycles samples a pixel, before denoising.

    Raises:
        RowError: Blender cannot open or render it.
    """
    with tempfile.TemporaryDirectory(prefix="datagen-preview-") as folder:
        prepared, geometry = Path(folder) / "scene.blend", Path(folder) / "scene.npz"
        report = blender.call(
            "prepare",
            timeout_s=PREPARE_TIMEOUT_S,
            model_path=str(glb.absolute()),
            blend_path=str(prepared),
            geometry_path=str(geometry),
            options=asdict(ImportOptions()),
        )
        if report["reason"] is not None:
            raise RowError(f"{glb}: {report['reason']} ({report['detail']})")
        vertices = np.load(geometry)["vertices"].astype(np.float64)
        job = RenderJob(
            placements=[PreparedPlacement(prepared_path=prepared, asset_to_world=np.eye(4))],
            views=[_view(vertices)],
            width=SIZE_PX,
            height=SIZE_PX,
            samples=samples,
        )
        [picture] = render_views(blender, job)
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGBA"))


def _view(vertices: NDArray[np.float64]) -> RenderView:
    """Return the camera that frames vertices (V, 3)."""
    center = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(vertices - center, axis=1).max())
    direction = TOWARDS_CAMERA / np.linalg.norm(TOWARDS_CAMERA)
    eye = center + distance_to_frame(radius, FOV_RAD) * direction
    return RenderView(
        world_to_camera=look_at(eye, center),
        intrinsics=intrinsics_from_fov(FOV_RAD, SIZE_PX, SIZE_PX),
        seed=0,
    )
