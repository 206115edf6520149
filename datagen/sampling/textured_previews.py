"""Rendered previews of textured scenes, to be shown beside the input image.

Blender runs as a separate process. The caller keeps a scene even if its preview cannot be made.
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
"""Width and height of a preview."""
FOV_RAD = np.deg2rad(40.0)
TOWARDS_CAMERA = np.array([8.0, -16.0, 10.0])
"""Direction to the camera, in z_up: from -Y, slightly from the right and from above.

Voxels are drawn from the same direction."""
OPEN_TIMEOUT_S = 300.0
"""For Blender to open the GLB."""


def render_textured(blender: BlenderProcess, glb: Path, samples: int = 16) -> NDArray[np.uint8]:
    """Return an image (384, 384, 4) of a textured scene's GLB, straight alpha, sRGB.

    Args:
        blender: the process that renders.
        glb: y_up, with at least one triangle.
        samples: Cycles samples per pixel, before denoising.

    Raises:
        RowError: Blender cannot open or render it.
    """
    with tempfile.TemporaryDirectory(prefix="datagen-preview-") as folder:
        prepared, geometry = Path(folder) / "scene.blend", Path(folder) / "scene.npz"
        report = blender.call(
            "prepare",
            timeout_s=OPEN_TIMEOUT_S,
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
        [image] = render_views(blender, job)
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGBA"))


def _view(vertices: NDArray[np.float64]) -> RenderView:
    """Return a view of the whole of the vertices (V, 3), metres, z_up."""
    center = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(vertices - center, axis=1).max())
    direction = TOWARDS_CAMERA / np.linalg.norm(TOWARDS_CAMERA)
    eye = center + distance_to_frame(radius, FOV_RAD) * direction
    return RenderView(
        world_to_camera=look_at(eye, center),
        intrinsics=intrinsics_from_fov(FOV_RAD, SIZE_PX, SIZE_PX),
        seed=0,
    )
