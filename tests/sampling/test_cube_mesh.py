"""Cube features give the recorded meshes, and closed manifolds for simple solids."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from safetensors.torch import load_file

from datagen.sampling.cube_mesh import CUBE_CORNERS, extract_mesh

GOLDEN = Path(__file__).parents[1] / "golden" / "slat"
CASES = json.loads((GOLDEN / "small_slat_mesh_extract.json").read_text())


def matched(vertices, expected):
    """Return for each expected vertex the row of ours, checked to be one to one."""
    distance, row = torch.cdist(expected.double(), vertices.double()).min(dim=1)
    assert float(distance.max()) < 1e-5
    assert len(set(row.tolist())) == len(expected) == len(vertices)
    return row


@pytest.mark.parametrize("name", ["field", "net", "net_grid5x"])
def test_mesh_is_the_recorded_one_up_to_order(name):
    io = load_file(GOLDEN / f"small_slat_mesh_extract_{name}_io.safetensors")
    inputs = io
    if "inputs_from" in CASES[name]:
        inputs = load_file(
            GOLDEN / f"small_slat_mesh_extract_{CASES[name]['inputs_from']}_io.safetensors"
        )
    mesh = extract_mesh(inputs["cube_coords"], inputs["cube_feats"], CASES[name]["resolution"])
    row = matched(mesh.vertices, io["vertices"])
    torch.testing.assert_close(mesh.vertices[row], io["vertices"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mesh.colors[row], io["vertex_colors_normals"], rtol=1e-4, atol=1e-4)
    ours = {tuple(np.roll(f, -int(np.argmin(f)))) for f in mesh.faces.numpy()}
    theirs = {tuple(np.roll(f, -int(np.argmin(f)))) for f in row[io["faces"].long()].numpy()}
    assert ours == theirs


def ball(resolution, radius):
    """Return all cubes of a grid and the channels of a ball's distance field."""
    axis = torch.arange(resolution)
    cubes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    corners = (cubes[:, None] + torch.tensor(CUBE_CORNERS)) / resolution - 0.5
    feats = torch.zeros(len(cubes), 53)
    feats[:, :8] = corners.norm(dim=-1) - radius + 1 / resolution  # the extraction takes it off
    return cubes, feats


def as_trimesh(mesh):
    return trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)


def test_ball_is_closed_and_faces_outward_with_nearly_its_volume():
    mesh = as_trimesh(extract_mesh(*ball(48, 0.3), 48))
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.02)
    assert np.linalg.norm(mesh.vertices, axis=1) == pytest.approx(0.3, abs=0.5 / 48)


def test_cubes_near_the_surface_alone_give_the_surface_of_all():
    cubes, feats = ball(24, 0.3)
    whole = extract_mesh(cubes, feats, 24)
    distance = (feats[:, :8] - 1 / 24).abs().amin(dim=1)
    near = distance < 2 / 24
    part = extract_mesh(cubes[near], feats[near], 24)
    assert near.sum() < len(cubes) / 2
    # Inside, a corner that no listed cube touches counts as outside: a second, inner skin.
    outer = part.vertices.norm(dim=1) > 0.24
    assert outer.sum() == len(whole.vertices)
    row = matched(part.vertices[outer], whole.vertices)
    torch.testing.assert_close(part.vertices[outer][row], whole.vertices)


def test_nothing_inside_gives_an_empty_mesh():
    cubes, feats = ball(8, 0.3)
    feats[:, :8] = 1.0
    mesh = extract_mesh(cubes, feats, 8)
    assert mesh.vertices.shape == (0, 3)
    assert mesh.faces.shape == (0, 3)


def test_one_inside_corner_gives_an_octahedron_about_it():
    cubes = torch.tensor(list(itertools.product((3, 4), repeat=3)))
    feats = torch.zeros(8, 53)
    corners = cubes[:, None] + torch.tensor(CUBE_CORNERS)
    inside = (corners == 4).all(dim=-1)
    feats[:, :8] = torch.where(inside, -1.0, 1.0) + 1 / 8
    mesh = as_trimesh(extract_mesh(cubes, feats, 8))
    assert len(mesh.vertices) == 8  # one in each cube, the corners of a small cube
    assert len(mesh.faces) == 12
    assert mesh.is_watertight
    assert mesh.volume > 0
    assert mesh.centroid == pytest.approx([0, 0, 0], abs=1e-6)


def test_ambiguous_faces_give_a_manifold():
    """Random signs hold every case; each edge of the mesh then has two faces."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.arange(10)
    cubes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    sdf = torch.rand(11, 11, 11, generator=generator) - 0.5
    for border in (0, -1):
        sdf[border], sdf[:, border], sdf[:, :, border] = 1, 1, 1
    corners = cubes[:, None] + torch.tensor(CUBE_CORNERS)
    feats = torch.zeros(len(cubes), 53)
    feats[:, :8] = sdf[tuple(corners.unbind(-1))] + 1 / 10
    mesh = as_trimesh(extract_mesh(cubes, feats, 10))
    assert len(mesh.faces) > 1000
    assert mesh.is_watertight
    assert mesh.is_winding_consistent


@pytest.mark.parametrize("border", [0, 7])
def test_surface_at_the_border_is_open_as_published_or_closed(border):
    cubes = torch.tensor([[border, 3, 3]])
    feats = torch.zeros(1, 53)
    feats[:, :8] = -1.0
    published = as_trimesh(extract_mesh(cubes, feats, 8))
    assert not published.is_watertight
    closed = as_trimesh(extract_mesh(cubes, feats, 8, closed=True))
    assert closed.is_watertight
    assert closed.volume > 0
