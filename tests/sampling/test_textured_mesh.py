"""Textures have the colours of their surfaces; Gaussians on disk are readable by others."""

import numpy as np
import open3d
import torch
import trimesh

from datagen.core.frames import Z_UP_TO_Y_UP
from datagen.models.structured_latent_decoders import Gaussians
from datagen.sampling.gaussian_ply import rotate_quaternions, write_gaussian_ply
from datagen.sampling.textured_mesh import bake, write_textured_glb


def painted_ball():
    """Return a ball whose colour is its position: red along x, green along y, blue along z."""
    ball = trimesh.creation.icosphere(5, 0.4)
    return ball.vertices, ball.faces, ball.vertices + 0.5


def sampled_colors(mesh, count=2000):
    """Return points on a textured mesh and the texture's colours there, read by its uv."""
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, face = trimesh.sample.sample_surface(surface, count, seed=0)
    corners = surface.triangles[face]
    weights = trimesh.triangles.points_to_barycentric(corners, points)
    uv = (mesh.uv[mesh.faces[face]] * weights[..., None]).sum(axis=1)
    side = len(mesh.texture)
    column = np.clip((uv[:, 0] * side).astype(int), 0, side - 1)
    row = np.clip(((1 - uv[:, 1]) * side).astype(int), 0, side - 1)
    return points, mesh.texture[row, column] / 255


def test_texture_shows_the_surfaces_colour_at_every_place():
    vertices, faces, colors = painted_ball()
    mesh = bake(vertices, faces, colors, keep_faces=0.1, texture_px=512)
    assert mesh.watertight
    assert len(mesh.faces) <= 0.11 * len(faces)
    points, shown = sampled_colors(mesh)
    error = np.abs(shown - (points + 0.5)).max(axis=1)
    assert np.quantile(error, 0.99) < 0.02  # decimation moves the surface by about 0.005


def test_textured_glb_holds_a_node_an_instance_with_its_texture(tmp_path):
    mesh = bake(*painted_ball(), keep_faces=0.05, texture_px=128)
    write_textured_glb(tmp_path / "scene.glb", {0: mesh, 3: mesh})
    scene = trimesh.load_scene(tmp_path / "scene.glb", process=False)
    assert sorted(scene.graph.nodes_geometry) == ["instance_00", "instance_03"]
    read = scene.geometry["instance_03"]
    texture = np.asarray(read.visual.material.baseColorTexture.convert("RGB"))
    np.testing.assert_array_equal(texture, mesh.texture)
    np.testing.assert_allclose(read.visual.uv, mesh.uv, atol=1e-6)
    y_up = mesh.vertices @ Z_UP_TO_Y_UP[:3, :3].T
    np.testing.assert_allclose(read.vertices, y_up, atol=1e-6)


def test_small_surface_is_not_decimated_away():
    box = trimesh.creation.box((0.5, 0.5, 0.5))
    mesh = bake(box.vertices, box.faces, np.full((8, 3), 0.25), texture_px=64)
    assert len(mesh.faces) == 12
    assert (mesh.texture == 64).all()


def test_small_hole_is_closed_and_an_opening_stays():
    ball = trimesh.creation.icosphere(4, 0.4)
    colors = ball.vertices + 0.5
    for threshold, closed in ((0.385, True), (-0.2, False)):
        faces = ball.faces[ball.triangles_center[:, 2] < threshold]
        assert not trimesh.Trimesh(ball.vertices, faces).is_watertight
        mesh = bake(ball.vertices, faces, colors, keep_faces=1.0, texture_px=64)
        assert mesh.watertight == closed
        assert mesh.num_source_faces == len(faces)


def test_large_opening_keeps_its_place_and_its_edge():
    ball = trimesh.creation.icosphere(4, 0.4)
    faces = ball.faces[ball.triangles_center[:, 2] < -0.2]
    mesh = bake(ball.vertices, faces, ball.vertices + 0.5, keep_faces=1.0, texture_px=64)
    assert mesh.vertices[:, 2].max() < -0.15


def test_glb_without_any_instance_is_valid(tmp_path):
    write_textured_glb(tmp_path / "scene.glb", {})
    assert not trimesh.load_scene(tmp_path / "scene.glb").geometry


def random_gaussians(count=50):
    torch.manual_seed(0)
    return Gaussians(
        xyz=torch.rand(count, 3) - 0.5,
        scaling=torch.rand(count, 3) * 0.01 + 1e-3,
        rotation=torch.nn.functional.normalize(torch.randn(count, 4), dim=1),
        opacity=torch.rand(count, 1),
        features=torch.randn(count, 1, 3),
    )


def test_gaussian_ply_is_read_by_others_with_every_property(tmp_path):
    gaussians = random_gaussians()
    write_gaussian_ply(tmp_path / "a.ply", gaussians)
    cloud = open3d.t.io.read_point_cloud(str(tmp_path / "a.ply"))
    rotation = Z_UP_TO_Y_UP[:3, :3]
    positions = cloud.point.positions.numpy()
    np.testing.assert_allclose(positions, gaussians.xyz.numpy() @ rotation.T, atol=1e-6)
    read = trimesh.load(tmp_path / "a.ply").metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_allclose(
        1 / (1 + np.exp(-read["opacity"].ravel())), gaussians.opacity[:, 0], atol=1e-5
    )
    for axis in range(3):
        np.testing.assert_allclose(
            np.exp(read[f"scale_{axis}"].ravel()), gaussians.scaling[:, axis], rtol=1e-5
        )
        np.testing.assert_allclose(
            read[f"f_dc_{axis}"].ravel(), gaussians.features[:, 0, axis], rtol=1e-5
        )


def test_rotated_quaternion_is_the_rotated_rotation():
    rotation = random_gaussians().rotation
    rotated = rotate_quaternions(rotation)
    for before, after in zip(rotation.numpy(), rotated.numpy(), strict=True):
        expected = Z_UP_TO_Y_UP @ trimesh.transformations.quaternion_matrix(before)
        np.testing.assert_allclose(
            trimesh.transformations.quaternion_matrix(after), expected, atol=1e-5
        )
