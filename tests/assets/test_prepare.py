"""Protects the preparation of objects: canonical triangles, materials, and what is set aside."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from datagen.assets.measure import REASONS
from datagen.assets.objects import FetchedModel, ImportOptions, SourceObject
from datagen.assets.prepare import prepare_asset
from datagen.assets.procedural import KINDS, ProceduralSource
from datagen.blender import BlenderProcess
from datagen.core.frames import Y_UP_TO_Z_UP
from datagen.errors import RowError
from datagen.shards.declared import ASSETS

pytestmark = pytest.mark.blender

DUMP = r"""
import bpy, json, numpy, sys
with bpy.data.libraries.load(sys.argv[-2]) as (found, wanted):
    wanted.meshes = found.meshes
    names = [*found.meshes, *found.objects, *found.cameras, *found.lights, *found.collections]
    packed = list(found.images)
mesh = bpy.data.meshes["asset"]
mesh.calc_loop_triangles()
corners = [[list(mesh.vertices[v].co) for v in t.vertices] for t in mesh.loop_triangles]
kept = [i for i in bpy.data.images if i.name in packed]
images = [[i.name, list(i.size), i.packed_file is not None] for i in kept]
colors = {}
for material in mesh.materials:
    socket = material.node_tree.nodes["Principled BSDF"].inputs["Base Color"]
    colors[material.name] = [socket.is_linked, list(socket.default_value)]
seen = dict(corners=corners, images=images, colors=colors, names=names)
json.dump(seen, open(sys.argv[-1], "w"))
"""
# A tetrahedron with three different legs: each of its rotations differs from every other.
LEGS = "v 0 0 0\nv 1 0 0\nv 0 2 0\nv 0 0 3\n"
TETRAHEDRON = LEGS + "f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
POINTS = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3.0]])


@dataclass
class Files:
    """A source of one object that is written down in the test."""

    files: dict[str, str | bytes]
    options: ImportOptions
    name: str = "files"

    def fingerprint(self) -> str:
        return "files"

    def list_objects(self) -> list[SourceObject]:
        return [
            SourceObject(
                uid="it", name="it", category="", license="CC0-1.0", author="", asset_id="it"
            )
        ]

    def fetch(self, obj: SourceObject, folder: Path) -> FetchedModel:
        for name, data in self.files.items():
            (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return FetchedModel(folder / next(iter(self.files)), self.options)


@pytest.fixture(scope="module")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlenderProcess]:
    with BlenderProcess(tmp_path_factory.mktemp("log") / "blender.log", threads=1) as process:
        yield process


@pytest.fixture
def prepare(blender, tmp_path):
    def run(files, **options):
        source = Files(files, ImportOptions(**options))
        row = prepare_asset(source, source.list_objects()[0], blender, tmp_path)
        # The stage knows the index of the object.
        assert set(row) == set(ASSETS.schema.names) - {"object_index"}
        return row

    return run


def geometry(tmp_path):
    with np.load(tmp_path / "geometry/it.npz") as arrays:
        return {name: arrays[name] for name in arrays}


@pytest.fixture
def dump(run_in_blender):
    def run(folder):
        out = folder / "dump.json"
        run_in_blender(DUMP, folder / "prepared/it.blend", out)
        return json.loads(out.read_text())

    return run


def canonical(points):
    base = [*(points.min(0) + points.max(0))[:2] / 2, points[:, 2].min()]
    return points - base


def assert_same_points(actual, expected):
    def order(points):
        return points[np.lexsort(np.round(points, 4).T)]

    np.testing.assert_allclose(order(actual), order(expected), atol=1e-6)


def test_y_up_model_stands_up_centred_on_the_ground(prepare, tmp_path):
    row = prepare({"it.obj": TETRAHEDRON})
    expected = canonical(POINTS @ Y_UP_TO_Z_UP[:3, :3].T)
    assert_same_points(geometry(tmp_path)["vertices"], expected)
    assert row["status"] == "ok"
    assert row["extent_m"] == pytest.approx([1, 3, 2])
    assert row["radius_m"] == pytest.approx(np.hypot(0.5, 1.5))
    assert (row["num_vertices"], row["num_faces"], row["watertight"]) == (4, 4, True)


def test_z_up_model_is_not_rotated(prepare, tmp_path):
    prepare({"it.obj": TETRAHEDRON}, up_axis="Z", unit_m=0.01)
    assert_same_points(geometry(tmp_path)["vertices"], canonical(POINTS * 0.01))


def test_rotation_comes_before_the_size_and_in_the_files_own_axes(prepare, tmp_path):
    rotation = (1.0, 0, 0, 0, 0, 1, 0, -1, 0)
    prepare({"it.obj": TETRAHEDRON}, rotation=rotation, size_m=(0.5, 0.8, 1.2))
    rotated = POINTS @ np.reshape(rotation, (3, 3)).T @ Y_UP_TO_Z_UP[:3, :3].T
    expected = canonical(rotated / np.ptp(rotated, axis=0) * [0.5, 0.8, 1.2])
    assert_same_points(geometry(tmp_path)["vertices"], expected)


def test_mirroring_rotation_keeps_the_outside_outside(prepare, tmp_path):
    prepare({"it.obj": TETRAHEDRON}, rotation=(-1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    arrays = geometry(tmp_path)
    assert trimesh.Trimesh(arrays["vertices"], arrays["faces"]).volume == pytest.approx(1.0)


def test_written_triangles_are_those_in_the_blend_file_and_nothing_else_is(prepare, tmp_path, dump):
    junk = TETRAHEDRON + "v 9 9 9\nv 9 9 8\nl 5 6\n"
    prepare({"it.obj": junk})
    arrays, kept = geometry(tmp_path), dump(tmp_path)
    np.testing.assert_array_equal(
        arrays["vertices"][arrays["faces"]], np.array(kept["corners"], np.float32)
    )
    assert arrays["vertices"].dtype == np.float32
    assert arrays["faces"].dtype == np.int32
    assert kept["names"] == ["asset"]


def test_repeated_and_empty_faces_are_removed(prepare, tmp_path):
    row = prepare({"it.obj": TETRAHEDRON + "f 2 4 3\nf 1 1 2\nf 1 2 3\nv 0.5 0 0\nf 1 5 2\n"})
    assert row["num_faces"] == 4
    assert row["watertight"]


def test_faces_of_see_through_materials_are_marked_and_invisible_ones_dropped(prepare, tmp_path):
    mtl = "newmtl solid\nKd 1 0 0\nnewmtl glass\nKd 1 1 1\nd 0.4\nnewmtl none\nd 0.0\n"
    faces = "usemtl solid\nf 1 3 2\nf 1 2 4\nusemtl glass\nf 1 4 3\nusemtl none\nf 2 3 4\n"
    prepare({"it.obj": "mtllib it.mtl\n" + LEGS + faces, "it.mtl": mtl})
    arrays = geometry(tmp_path)
    assert len(arrays["faces"]) == 3
    corners = arrays["vertices"][arrays["faces"]]
    is_side = np.ptp(corners[:, :, 0], axis=1) == 0  # the glass face lies in the plane x = 0
    np.testing.assert_array_equal(arrays["transparent"], is_side)


def test_missing_texture_becomes_the_materials_colour_and_never_magenta(
    prepare, tmp_path, caplog, dump
):
    mtl = "newmtl m\nKd 0.2 0.4 0.6\nmap_Kd lost.png\nmap_d lost too.png\n"
    mtl += "newmtl black\nKd 0 0 0\nmap_Kd lost.png\n"
    faces = "usemtl m\nf 1 3 2\nf 1 2 4\nusemtl black\nf 1 4 3\nf 2 3 4\n"
    with caplog.at_level("INFO", "datagen.assets"):
        row = prepare({"it.obj": "mtllib it.mtl\n" + LEGS + faces, "it.mtl": mtl})
    assert row["status"] == "ok"
    assert row["has_texture"] is False
    assert caplog.text.count("lost.png") == 1
    kept = dump(tmp_path)
    assert kept["images"] == []
    assert kept["colors"]["m"][0] is False
    assert kept["colors"]["m"][1][:3] == pytest.approx([0.2, 0.4, 0.6], abs=1e-6)
    assert kept["colors"]["black"][1][:3] == pytest.approx([0.5] * 3)
    assert not geometry(tmp_path)["transparent"].any()


def test_large_texture_is_shrunk_and_packed(prepare, tmp_path, dump):
    Image.new("RGB", (2048, 512), (200, 10, 10)).save(tmp_path / "red.png")
    coords = "vt 0 0\nvt 1 0\nvt 0 1\n"
    faces = "usemtl m\nf 1/1 3/2 2/3\nf 1/1 2/2 4/3\nf 1/1 4/2 3/3\nf 2/1 3/2 4/3\n"
    row = prepare(
        {
            "it.obj": "mtllib it.mtl\n" + LEGS + coords + faces,
            "it.mtl": "newmtl m\nmap_Kd red.png\n",
            "red.png": (tmp_path / "red.png").read_bytes(),
        }
    )
    assert row["has_texture"] is True
    assert dump(tmp_path)["images"] == [["red.png", [1024, 256], True]]


def test_glb_instances_are_realised_where_their_nodes_put_them(prepare, tmp_path):
    part = trimesh.creation.box((1, 1, 1))
    mirrored = np.diag([-1.0, 1, 1, 1])
    mirrored[0, 3] = 5.0
    scene = trimesh.Scene()
    scene.add_geometry(part, geom_name="box")
    scene.graph.update("second", geometry="box", matrix=mirrored)
    row = prepare({"it.glb": scene.export(file_type="glb")})
    arrays = geometry(tmp_path)
    assert row["extent_m"] == pytest.approx([6, 1, 1])
    assert row["num_faces"] == 24
    assert trimesh.Trimesh(arrays["vertices"], arrays["faces"]).volume == pytest.approx(2.0)


def test_two_surfaces_in_one_place_become_one(prepare, tmp_path, dump):
    sphere = trimesh.creation.icosphere(2)
    scene = trimesh.Scene({"one": sphere, "other": sphere.copy()})
    row = prepare({"it.glb": scene.export(file_type="glb", include_normals=True)})
    assert row["num_faces"] == len(sphere.faces)
    assert row["watertight"]
    arrays, kept = geometry(tmp_path), dump(tmp_path)
    np.testing.assert_array_equal(
        arrays["vertices"][arrays["faces"]], np.array(kept["corners"], np.float32)
    )


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"it.glb": b"glTF and then nothing of the kind"}, "import_failed"),
        ({"it.xyz": b"1 2 3"}, "import_failed"),
        ({"it.obj": LEGS}, "no_triangles"),
        ({"it.obj": "nothing"}, "no_triangles"),
        ({"it.obj": LEGS + "f 1 1 2\n"}, "no_triangles"),
        ({"it.obj": LEGS + "f 1 2 3\n"}, "flat"),
    ],
    ids=["garbage", "format", "points", "words", "empty face", "flat"],
)
def test_broken_model_is_quarantined_with_its_reason_and_leaves_no_file(
    prepare, tmp_path, files, reason
):
    row = prepare(files)
    assert (row["status"], row["reason"]) == ("quarantined", reason)
    assert reason in REASONS
    assert row["geometry_path"] is row["prepared_path"] is row["extent_m"] is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class CrashingBlender:
    """A Blender that crashes on its first jobs and records its calls."""

    def __init__(self, crashes, blender=None):
        self.crashes, self.blender, self.asked = crashes, blender, []

    def call(self, op, *, timeout_s, **fields):
        self.asked.append(op)
        if self.asked.count(op) <= self.crashes:
            raise RowError("Blender was killed by SIGSEGV")
        return self.blender.call(op, timeout_s=timeout_s, **fields)

    def close(self):
        self.asked.append("close")


def test_object_that_crashes_two_blenders_is_quarantined(tmp_path):
    source, crashing = Files({"it.obj": TETRAHEDRON}, ImportOptions()), CrashingBlender(crashes=2)
    row = prepare_asset(source, source.list_objects()[0], crashing, tmp_path)
    assert (row["status"], row["reason"]) == ("quarantined", "crashed")
    assert crashing.asked == ["prepare", "close", "prepare", "close"]


def test_object_that_crashes_one_blender_is_prepared_by_the_next(blender, tmp_path):
    source, crashing = Files({"it.obj": TETRAHEDRON}, ImportOptions()), CrashingBlender(1, blender)
    row = prepare_asset(source, source.list_objects()[0], crashing, tmp_path)
    assert row["status"] == "ok"


def test_collada_file_gets_a_blender_of_its_own(blender, tmp_path):
    source, alone = Files({"it.dae": "<COLLADA/>"}, ImportOptions()), CrashingBlender(0, blender)
    prepare_asset(source, source.list_objects()[0], alone, tmp_path)
    assert alone.asked == ["close", "prepare", "close"]


def test_object_is_the_same_whatever_was_prepared_before_it(prepare, tmp_path):
    prepare({"it.obj": TETRAHEDRON})
    before = geometry(tmp_path)
    other = trimesh.creation.icosphere().export(file_type="obj")
    prepare({"it.obj": other})
    prepare({"it.obj": TETRAHEDRON})
    after = geometry(tmp_path)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_every_procedural_kind_is_prepared_and_only_tables_and_stools_carry(blender, tmp_path):
    source = ProceduralSource(num_objects=len(KINDS))
    rows = {
        obj.name: prepare_asset(source, obj, blender, tmp_path) for obj in source.list_objects()
    }
    assert {row["status"] for row in rows.values()} == {"ok"}
    carrying = {name for name, row in rows.items() if row["support"] is not None}
    assert carrying == {"rectangular table", "round table", "desk", "stool"}
    desk = rows["desk"]
    assert desk["support"]["height_m"] < desk["extent_m"][2] - 0.2
    assert np.isfinite(desk["support"]["headroom_m"])
