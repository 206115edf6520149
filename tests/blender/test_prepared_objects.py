"""Protects prepared objects: they render as exactly the triangles in their geometry file."""

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from datagen.assets.objects import ImportOptions
from datagen.blender import PreparedPlacement, RenderJob, RenderView, render_views
from datagen.core.frames import placement_matrix, transform_points
from datagen.views.agreement import MAX_DISAGREEMENT, disagreement
from datagen.views.cameras import bounding_sphere, scene_views
from datagen.views.visibility import RaycastingScene

pytestmark = pytest.mark.blender

SIZE = 128


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A GLB with two bodies, rotated and moved by their nodes; one of them is transparent."""
    scene = trimesh.Scene()
    material = trimesh.visual.material.PBRMaterial
    body = trimesh.creation.torus(0.5, 0.15)
    body.visual = trimesh.visual.TextureVisuals(
        material=material(baseColorFactor=[200, 90, 60, 255])
    )
    pane = trimesh.creation.box((0.6, 0.6, 0.02))
    pane.visual = trimesh.visual.TextureVisuals(
        material=material(baseColorFactor=[90, 160, 200, 60], alphaMode="BLEND")
    )
    rotation = trimesh.transformations.rotation_matrix(0.7, (1, 2, 0.5), (0.2, 0, 0))
    scene.add_geometry(body, transform=rotation)
    scene.add_geometry(pane, transform=trimesh.transformations.translation_matrix((0.2, 1.1, 0.3)))
    path = tmp_path / "model.glb"
    path.write_bytes(scene.export(file_type="glb"))
    return path


def test_prepared_object_agrees_with_its_geometry_file_even_after_other_preparations(
    model, tmp_path, blender
):
    def prepare(name: str) -> tuple[Path, Path]:
        paths = tmp_path / f"{name}.blend", tmp_path / f"{name}.npz"
        report = blender.call(
            "prepare",
            timeout_s=120,
            model_path=str(model),
            blend_path=str(paths[0]),
            geometry_path=str(paths[1]),
            options=asdict(ImportOptions(size_m=(0.8, 0.7, 0.9))),
        )
        assert report["reason"] is None, report
        return paths

    blend, npz = prepare("first")
    geometry = np.load(npz)
    matrix = placement_matrix(np.array([0.4, -0.3, 0.2]), 1.1, 1.4)
    vertices = transform_points(matrix, geometry["vertices"])
    center, radius = bounding_sphere(vertices)
    views = scene_views(center, radius, 6, fov_rad=0.7, width=SIZE, height=SIZE)
    job = RenderJob(
        placements=[PreparedPlacement(prepared_path=blend, asset_to_world=matrix)],
        views=[RenderView(world_to_camera=c, intrinsics=k, seed=0) for c, k in views],
        width=SIZE,
        height=SIZE,
    )

    images = render_views(blender, job)
    prepare("second")  # empties Blender, the studio included
    again = render_views(blender, job)

    rays = RaycastingScene([(vertices, geometry["faces"])], [geometry["transparent"]])
    seen = [rays.cast_view(*view, SIZE, SIZE) for view in views]
    wrong = [
        disagreement(pixels(png)[..., 3], view.instance_map, view.transparent_map)
        for png, view in zip(images, seen, strict=True)
    ]
    assert sum(view.transparent_map.sum() for view in seen) > 1000
    assert sum(wrong) <= MAX_DISAGREEMENT * SIZE * SIZE * len(views)
    assert images == again


def pixels(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))
