"""Protects the import of every format: axes, units, winding, and the files of one model."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trimesh

from datagen.assets.folder import FolderSource
from datagen.assets.formats import model_files
from datagen.assets.prepare import prepare_asset
from datagen.blender import BlenderProcess
from datagen.core.frames import Z_UP_TO_Y_UP

# Three different legs along x, y and the up axis z: each of its rotations differs from every other.
POINTS = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3.0]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
EXTENT = [1.0, 2.0, 3.0]
THIRD = [extent / 3 for extent in EXTENT]
"""The longest side scaled to 1, where the format has no unit."""

WRITE = r"""
import bpy, sys
path, points, faces = sys.argv[-3], eval(sys.argv[-2]), eval(sys.argv[-1])
bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
mesh = bpy.data.meshes.new("it")
mesh.from_pydata(points, [], faces)
obj = bpy.data.objects.new("it", mesh)
bpy.context.scene.collection.objects.link(obj)
hidden = bpy.data.objects.new("cutter", mesh)
hidden.hide_render, hidden.location = True, (9, 9, 9)
kind = path.rpartition(".")[2]
if kind == "blend":
    bpy.context.scene.collection.objects.link(hidden)
    bpy.ops.wm.save_as_mainfile(filepath=path)
elif kind == "fbx":
    bpy.ops.export_scene.fbx(filepath=path)
elif kind == "abc":
    bpy.ops.wm.alembic_export(filepath=path)
else:
    bpy.ops.wm.usd_export(filepath=path)
"""

COLLADA = """<?xml version="1.0" encoding="utf-8"?>
<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
<asset><unit name="centimeter" meter="0.01"/><up_axis>Y_UP</up_axis></asset>
<library_geometries><geometry id="it" name="it"><mesh>
<source id="p"><float_array id="a" count="12">0 0 0 100 0 0 0 0 -200 0 300 0</float_array>
<technique_common><accessor source="#a" count="4" stride="3">
<param name="X" type="float"/><param name="Y" type="float"/><param name="Z" type="float"/>
</accessor></technique_common></source>
<vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
<triangles count="4"><input semantic="VERTEX" source="#v" offset="0"/>
<p>0 2 1 0 1 3 0 3 2 1 2 3</p></triangles>
</mesh></geometry></library_geometries>
<library_visual_scenes><visual_scene id="s"><node id="n"><instance_geometry url="#it"/></node>
</visual_scene></library_visual_scenes>
<scene><instance_visual_scene url="#s"/></scene>
</COLLADA>
"""
"""The tetrahedron in centimetres, Y up."""

WRITE_GROUPS = r"""
import bpy, sys
bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
bpy.ops.mesh.primitive_cube_add()
cube = bpy.context.object
for name in ("image", "glass"):
    group = bpy.data.node_groups.new(name, "ShaderNodeTree")
    group.interface.new_socket("Shader", in_out="OUTPUT", socket_type="NodeSocketShader")
    output = group.nodes.new("NodeGroupOutput")
    if name == "glass":
        shader = group.nodes.new("ShaderNodeBsdfTransparent")
    else:
        shader = group.nodes.new("ShaderNodeBsdfPrincipled")
        image = group.nodes.new("ShaderNodeTexImage")
        image.image = bpy.data.images.new("wood", 4, 4)
        image.image.source = "FILE"
        image.image.filepath = "//nowhere/wood.png"
        group.links.new(image.outputs[0], shader.inputs["Base Color"])
    group.links.new(shader.outputs[0], output.inputs[0])
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeGroup")
    node.node_tree = group
    surface = material.node_tree.nodes["Material Output"].inputs[0]
    material.node_tree.links.new(node.outputs[0], surface)
    cube.data.materials.append(material)
cube.data.polygons[0].material_index = 1
bpy.context.scene.unit_settings.scale_length = 0.01
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
"""


WRITE_UV_LAYERS = r"""
import bpy, sys
bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
for cube in range(3):
    bpy.ops.mesh.primitive_cube_add(location=(3 * cube, 0, 0))
    for layer in range(4):
        bpy.context.object.data.uv_layers.new(name=f"layer {cube} {layer}")
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
"""


@pytest.fixture(scope="module")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlenderProcess]:
    with BlenderProcess(tmp_path_factory.mktemp("log") / "blender.log", threads=1) as process:
        yield process


def write_by_trimesh(path: Path, *, y_up: bool) -> None:
    points = POINTS @ Z_UP_TO_Y_UP[:3, :3].T if y_up else POINTS
    trimesh.Trimesh(points, FACES, process=False).export(path)


def prepared(blender, folder):
    """Return the row and the triangles of the only model in a folder."""
    source = FolderSource(folder)
    [obj] = source.list_objects()
    row = prepare_asset(source, obj, blender, folder / "out")
    with np.load(folder / "out" / row["geometry_path"]) as arrays:
        return row, arrays["vertices"], arrays["faces"]


def assert_is_the_tetrahedron(vertices, faces, scale):
    expected = (POINTS - [0.5, 1, 0]) * scale
    order = [int(np.linalg.norm(vertices - point, axis=1).argmin()) for point in expected]
    np.testing.assert_allclose(vertices[order], expected, atol=1e-5)
    assert trimesh.Trimesh(vertices, faces).volume == pytest.approx(scale**3)  # right way out


@pytest.mark.blender
@pytest.mark.parametrize(
    ("suffix", "y_up", "scale"),
    [("glb", True, 1), ("obj", True, 1 / 3), ("stl", False, 1 / 3), ("ply", False, 1 / 3)],
)
def test_format_of_plain_numbers_stands_up_at_its_size(blender, tmp_path, suffix, y_up, scale):
    write_by_trimesh(tmp_path / f"it.{suffix}", y_up=y_up)
    _, vertices, faces = prepared(blender, tmp_path)
    assert_is_the_tetrahedron(vertices, faces, scale)


@pytest.mark.blender
@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["fbx", "usda", "usdc", "usdz", "blend"])
def test_format_that_knows_its_axes_and_unit_stands_up_in_metres(
    blender, run_in_blender, tmp_path, suffix
):
    run_in_blender(WRITE, tmp_path / f"it.{suffix}", str(POINTS.tolist()), str(FACES.tolist()))
    _, vertices, faces = prepared(blender, tmp_path)
    assert_is_the_tetrahedron(vertices, faces, 1)


@pytest.mark.blender
def test_alembic_file_keeps_its_axes_and_is_scaled_to_one_metre(blender, run_in_blender, tmp_path):
    run_in_blender(WRITE, tmp_path / "it.abc", str(POINTS.tolist()), str(FACES.tolist()))
    _, vertices, faces = prepared(blender, tmp_path)
    assert_is_the_tetrahedron(vertices, faces, 1 / 3)


@pytest.mark.blender
def test_collada_file_stands_up_in_metres_or_is_refused_by_a_blender_that_cannot_read_it(
    blender, tmp_path, caplog
):
    (tmp_path / "it.dae").write_text(COLLADA)

    if blender.hello["blender"] < "5":
        _, vertices, faces = prepared(blender, tmp_path)
        assert_is_the_tetrahedron(vertices, faces, 1)
    else:
        source = FolderSource(tmp_path)
        row = prepare_asset(source, source.list_objects()[0], blender, tmp_path / "out")
        assert row["reason"] == "import_failed"
        assert "reads no Collada files" in caplog.text


@pytest.mark.blender
def test_table_overrides_axis_and_unit(blender, tmp_path):
    write_by_trimesh(tmp_path / "it.glb", y_up=False)  # wrong: glTF is Y up
    (tmp_path / "assets.csv").write_text("path,up_axis,unit\nit.glb,Z,cm\n")
    _, vertices, faces = prepared(blender, tmp_path)
    assert_is_the_tetrahedron(vertices, faces, 0.01)


@pytest.mark.blender
def test_source_origin_restores_the_position_in_the_file(blender, tmp_path):
    moved = trimesh.Trimesh(POINTS + [5, 6, 7], FACES, process=False)
    moved.vertices = moved.vertices @ Z_UP_TO_Y_UP[:3, :3].T
    moved.export(tmp_path / "it.glb")
    row, vertices, _ = prepared(blender, tmp_path)
    np.testing.assert_allclose(row["source_origin_m"], [5.5, 7, 7], atol=1e-5)
    back = vertices + row["source_origin_m"]
    np.testing.assert_allclose(back.min(axis=0), [5, 6, 7], atol=1e-5)


@pytest.mark.blender
def test_object_with_too_many_faces_is_decimated_and_logged(blender, tmp_path, caplog):
    sphere = trimesh.creation.icosphere(subdivisions=4)
    sphere.export(tmp_path / "it.glb")
    source = FolderSource(tmp_path)
    [obj] = source.list_objects()
    with caplog.at_level("INFO", "datagen.assets"):
        row = prepare_asset(source, obj, blender, tmp_path / "out", max_faces=1000)
    assert row["num_source_faces"] == len(sphere.faces) == 5120
    assert 900 <= row["num_faces"] <= 1000
    assert row["extent_m"] == pytest.approx([2, 2, 2], abs=0.02)
    assert row["watertight"]
    assert "5120" in caplog.text


@pytest.mark.blender
@pytest.mark.slow
def test_more_uv_layers_than_a_mesh_can_have_do_not_stop_an_object(
    blender, run_in_blender, tmp_path
):
    run_in_blender(WRITE_UV_LAYERS, tmp_path / "it.blend")
    row, _, _ = prepared(blender, tmp_path)
    assert row["num_bodies"] == 3


@pytest.mark.blender
@pytest.mark.slow
def test_blend_file_with_missing_images_and_glass_inside_node_groups(
    blender, run_in_blender, tmp_path
):
    run_in_blender(WRITE_GROUPS, tmp_path / "it.blend")
    row, _, faces = prepared(blender, tmp_path)
    assert row["textures_missing"] == ["wood.png"]
    assert row["has_texture"] is False
    assert row["extent_m"] == pytest.approx([0.02, 0.02, 0.02])  # the scene's unit is 1 cm
    with np.load(tmp_path / "out" / row["geometry_path"]) as arrays:
        assert arrays["transparent"].sum() == 2
    assert len(faces) == 12


def test_model_includes_the_files_that_it_links_and_no_others(tmp_path):
    (tmp_path / "it.obj").write_text("mtllib it one.mtl\nmtllib lost.mtl\n")
    (tmp_path / "it one.mtl").write_text("newmtl m\nmap_Kd -s 1 1 1 wood.png\nmap_d not here.png\n")
    for name in ("wood.png", "other.png", "buffer 1.bin", "p.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert sorted(model_files(tmp_path / "it.obj")) == [".obj", "it one.mtl", "wood.png"]
    gltf = {"buffers": [{"uri": "buffer%201.bin"}], "images": [{"uri": "data:,"}, {}, 3]}
    (tmp_path / "it.gltf").write_text(json.dumps(gltf))
    assert sorted(model_files(tmp_path / "it.gltf")) == [".gltf", "buffer 1.bin"]
    (tmp_path / "it.dae").write_text("<image><init_from>p.jpg</init_from></image>")
    assert sorted(model_files(tmp_path / "it.dae")) == [".dae", "p.jpg"]
    (tmp_path / "broken.gltf").write_text("[]")
    assert sorted(model_files(tmp_path / "broken.gltf")) == [".gltf"]
