"""Protects passes, lights and the ground: they agree with Cycles and never change alpha."""

import io
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from datagen.assets.objects import ImportOptions
from datagen.blender import PreparedPlacement, RenderJob, RenderView, render_views
from datagen.core.cameras import intrinsics_from_fov, look_at
from datagen.core.frames import camera_to_world_gl, placement_matrix, transform_points
from datagen.core.seeding import rng_for
from datagen.shards.scenes import SceneMeshes
from datagen.stages.render import RenderViews
from datagen.views.agreement import MAX_DISAGREEMENT, disagreement, shadow_map
from datagen.views.cameras import bounding_sphere, scene_views
from datagen.views.lights import Light, build_light, ground_under
from datagen.views.passes import (
    NO_PASSES,
    depth_png,
    normal_png,
    read_depth,
    read_mask,
    read_normal,
    read_rgba,
)
from datagen.views.visibility import RaycastingScene

pytestmark = pytest.mark.blender

SIZE = 128
FOV_RAD = 0.7

# Emits what the camera ray meets, as colour: an oracle that shares no line with our rays. A pixel
# filter of a hundredth of a pixel samples centres.
ORACLE = r"""
import bpy, json, numpy as np, sys
from mathutils import Matrix
job = json.load(open(sys.argv[1]))
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
for path, matrix in job["placements"]:
    with bpy.data.libraries.load(path) as (inside, wanted):
        wanted.meshes = ["asset"]
    item = bpy.data.objects.new("item", wanted.meshes[0])
    item.matrix_world = Matrix(matrix)
    scene.collection.objects.link(item)
scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
scene.collection.objects.link(scene.camera)
scene.camera.data.angle = job["fov_rad"]
scene.render.engine = "CYCLES"
scene.render.resolution_x = scene.render.resolution_y = job["size"]
scene.render.image_settings.file_format = "OPEN_EXR"
scene.render.image_settings.color_depth = "32"
scene.cycles.samples, scene.cycles.use_denoising = 1, False
scene.cycles.pixel_filter_type, scene.cycles.filter_width = "GAUSSIAN", 0.01
found = {}
for name in ("depth", "normal"):
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    emission = tree.nodes.new("ShaderNodeEmission")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    if name == "depth":
        source = tree.nodes.new("ShaderNodeCameraData").outputs["View Z Depth"]
    else:  # colours are never negative
        halved = tree.nodes.new("ShaderNodeVectorMath")
        halved.operation = "MULTIPLY_ADD"
        halved.inputs[1].default_value = halved.inputs[2].default_value = (0.5, 0.5, 0.5)
        normal = tree.nodes.new("ShaderNodeNewGeometry").outputs["True Normal"]
        tree.links.new(normal, halved.inputs[0])
        source = halved.outputs[0]
    tree.links.new(source, emission.inputs["Color"])
    bpy.context.view_layer.material_override = material
    for index, matrix in enumerate(job["cameras"]):
        scene.camera.matrix_world = Matrix(matrix)
        scene.render.filepath = f"{job['folder']}/{name}{index}.exr"
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        pixels = np.empty(job["size"] ** 2 * image.channels, np.float32)
        image.pixels.foreach_get(pixels)
        pixels = pixels.reshape(job["size"], job["size"], -1)
        found[f"{name}{index}"] = pixels[::-1, :, :3]
np.savez(job["folder"] + "/found.npz", **found)
"""


@pytest.fixture(scope="module")
def scene(write_prepared):
    """A ball beside a box on a slab: prepared files, matrices and world meshes."""
    shapes = {
        "pass-ball": (trimesh.creation.icosphere(3, 0.4), (-0.5, 0.1, 0.4), 0.0),
        "pass-box": (trimesh.creation.box((0.5, 0.3, 0.7)), (0.4, 0.0, 0.35), 0.6),
        "pass-ring": (trimesh.creation.torus(0.3, 0.08), (0.1, -0.7, 0.08), 0.0),
    }
    placements, world = [], []
    for name, (mesh, position, yaw) in shapes.items():
        matrix = placement_matrix(np.array(position), yaw, 1.0)
        placements.append((write_prepared(name, mesh), matrix))
        world.append((transform_points(matrix, mesh.vertices), mesh.faces))
    return placements, world


def views_of(world, count=4):
    center, radius = bounding_sphere(np.concatenate([vertices for vertices, _ in world]))
    return scene_views(center, radius, count, fov_rad=FOV_RAD, width=SIZE, height=SIZE)


def job_of(placements, views, **fields):
    return RenderJob(
        placements=[PreparedPlacement(prepared_path=p, asset_to_world=m) for p, m in placements],
        views=[
            RenderView(world_to_camera=camera, intrinsics=intrinsics, seed=index)
            for index, (camera, intrinsics) in enumerate(views)
        ],
        width=SIZE,
        height=SIZE,
        **fields,
    )


def test_depth_and_normals_equal_those_of_cycles(scene, tmp_path: Path):
    placements, world = scene
    views = views_of(world)
    job = {
        "placements": [[str(path), matrix.tolist()] for path, matrix in placements],
        "cameras": [camera_to_world_gl(camera).tolist() for camera, _ in views],
        "fov_rad": FOV_RAD,
        "size": SIZE,
        "folder": str(tmp_path),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    subprocess.run([sys.executable, "-c", ORACLE, str(tmp_path / "job.json")], check=True)
    oracle = np.load(tmp_path / "found.npz")

    geometry = RaycastingScene(world)
    for index, (camera, intrinsics) in enumerate(views):
        seen = geometry.cast_view(camera, intrinsics, SIZE, SIZE, normals=True)
        depth_z = read_depth(*depth_png(seen.depth_z))
        normal = read_normal(normal_png(seen.normal))
        expected_z = oracle[f"depth{index}"][..., 0]
        expected = (oracle[f"normal{index}"] * 2 - 1) @ camera[:3, :3].T
        # At an outline, a hundredth of a pixel decides what is met: leave its pixels out.
        covered = (expected_z > 0).astype(np.uint8)
        near_outline = maximum_filter(seen.instance_map, 3) != minimum_filter(seen.instance_map, 3)
        inside = (covered == 1) & ~near_outline

        assert inside.sum() > 1000
        assert ((covered == 1) != (seen.instance_map > 0)).mean() < 1e-3
        # 16 bits are 0.05 mm; a hundredth of a pixel, 0.2 mm wide, on a slope is as much again.
        assert np.quantile(np.abs(depth_z[inside] - expected_z[inside]), 0.99) < 1e-4
        lengths = np.linalg.norm(normal[inside], axis=1)
        cosine = (normal * expected).sum(axis=2)[inside] / lengths
        # But for a few pixels at edges between facets, 8 bits are half a degree.
        assert np.quantile(cosine, 0.01) > np.cos(np.radians(1.0))


@pytest.mark.parametrize("name", ["trellis", "random"])
def test_light_changes_colours_and_never_alpha(name, scene, blender):
    placements, world = scene
    vertices = np.concatenate([vertices for vertices, _ in world])
    plain = job_of(placements, views_of(world, 2))
    lit = replace(plain, light=build_light(name, vertices, rng_for(0, "test"), []))

    pairs = zip(render_views(blender, plain), render_views(blender, lit), strict=True)
    for before, after in ((read_rgba(a), read_rgba(b)) for a, b in pairs):
        np.testing.assert_array_equal(before[..., 3], after[..., 3])
        inside = before[..., 3] == 255
        assert np.abs(before[inside].astype(int) - after[inside])[:, :3].mean() > 3

    again = render_views(blender, plain)
    assert again == render_views(blender, plain)


@pytest.fixture(scope="module")
def sky(tmp_path_factory) -> Path:
    """A sky whose half towards -x is blue and bright, and the other red and as bright."""
    path = tmp_path_factory.mktemp("sky") / "half.hdr"
    script = (
        "import bpy, numpy as np, sys\n"
        "image = bpy.data.images.new('sky', 64, 32, float_buffer=True)\n"
        "pixels = np.zeros((32, 64, 4), np.float32); pixels[..., 3] = 1\n"
        "pixels[:, :16, 0] = pixels[:, 48:, 0] = 40\n"  # the sides of the image are at -x
        "pixels[:, 16:48, 2] = 40\n"
        "image.pixels.foreach_set(pixels.ravel())\n"
        "image.filepath_raw, image.file_format = sys.argv[1], 'HDR'; image.save()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    return path


def test_sky_is_rotated_and_scaled_to_its_mean_radiance(sky, write_prepared, blender):
    ball = write_prepared("sky-ball", trimesh.creation.icosphere(3, 0.5), (0.8, 0.8, 0.8))
    intrinsics = intrinsics_from_fov(FOV_RAD, SIZE, SIZE)
    camera = look_at(np.array([0.0, -3.0, 0.0]), np.zeros(3))  # +x is right in the image
    job = job_of([(ball, np.eye(4))], [(camera, intrinsics)], samples=16)

    def halves(turn_rad: float) -> tuple[np.ndarray, np.ndarray]:
        light = Light((), 0.6, sky, turn_rad)
        rgba = read_rgba(render_views(blender, replace(job, light=light))[0]).astype(float)
        middle = rgba[SIZE // 2 - 8 : SIZE // 2 + 8]
        return middle[:, 32:40, :3].mean(axis=(0, 1)), middle[:, 88:96, :3].mean(axis=(0, 1))

    left, right = halves(0.0)
    rotated_left, rotated_right = halves(np.pi)

    is_red = left[0] > left[2]
    assert is_red == (right[0] < right[2])
    assert is_red == (rotated_left[0] < rotated_left[2]) == (rotated_right[0] > rotated_right[2])
    brightest = max(left.max(), right.max())
    assert 60 < brightest < 250  # a image of 40 W/m2/sr would be white


def test_ground_adds_shadows_outside_the_masks_and_hides_nothing_from_below(scene, blender):
    placements, world = scene
    vertices = np.concatenate([vertices for vertices, _ in world])
    intrinsics = intrinsics_from_fov(0.9, SIZE, SIZE)
    views = [
        (look_at(np.array(eye), np.array([0.0, 0.0, 0.3])), intrinsics)
        for eye in [(0.5, -2.5, 1.5), (0.5, -2.5, -1.5), (0.01, 0.0, 3.0)]
    ]
    geometry = RaycastingScene(world)
    plain = job_of(placements, views)
    with_ground = replace(plain, ground=ground_under(vertices))

    for index, (before, after) in enumerate(
        zip(render_views(blender, plain), render_views(blender, with_ground), strict=True)
    ):
        before, after = read_rgba(before), read_rgba(after)
        seen = geometry.cast_view(*views[index], SIZE, SIZE)
        outside = (seen.instance_map == 0) & (before[..., 3] == 0)
        shadow = after[outside][:, 3]
        excused = shadow_map(after, seen.instance_map)
        assert disagreement(after[..., 3], seen.instance_map, excused) <= MAX_DISAGREEMENT * SIZE**2
        assert (after[before[..., 3] == 255][:, 3] >= 250).all()
        if index == 1:
            assert not shadow.any()
        else:
            assert (shadow > 60).sum() > 300

    assert render_views(blender, plain) == render_views(blender, plain)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_transparent_faces_are_solid_in_the_masks_and_excused_in_the_check(
    alpha, write_prepared, blender
):
    """A pane of glass, or a leaf where its image is transparent: alpha is smaller than the mask."""
    pane = trimesh.creation.box((1.0, 0.02, 1.0))
    path = write_prepared(f"clear-{alpha}", pane, alpha=alpha)
    views = [
        (look_at(np.array([0.4, -3.0, 0.3]), np.zeros(3)), intrinsics_from_fov(0.7, SIZE, SIZE))
    ]
    rgba = read_rgba(render_views(blender, job_of([(path, np.eye(4))], views))[0])

    world = [(pane.vertices, pane.faces)]
    marked = RaycastingScene(world, [np.ones(len(pane.faces), bool)]).cast_view(
        *views[0], SIZE, SIZE
    )

    assert marked.visible_px[0] > 1000
    assert disagreement(rgba[..., 3], marked.instance_map) > MAX_DISAGREEMENT * SIZE**2
    assert disagreement(rgba[..., 3], marked.instance_map, marked.transparent_map) == 0


def test_leaf_cut_out_by_its_image_is_excused_where_the_image_is_transparent(tmp_path, blender):
    """A card with a leaf painted on it: rays hit the card, the render shows the leaf."""
    paint = np.zeros((64, 64, 4), np.uint8)
    rows, columns = np.mgrid[:64, :64] - 31.5
    paint[...] = 40, 140, 50, 0
    paint[..., 3] = 255 * ((rows / 30) ** 2 + (columns / 14) ** 2 < 1)
    card = trimesh.Trimesh(
        [[-0.5, 0, 0], [0.5, 0, 0], [0.5, 1, 0], [-0.5, 1, 0]], [[0, 1, 2], [0, 2, 3]]
    )
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(paint), alphaMode="MASK", doubleSided=True
    )
    card.visual = trimesh.visual.TextureVisuals([[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    (tmp_path / "leaf.glb").write_bytes(trimesh.Scene(card).export(file_type="glb"))
    blend, npz = tmp_path / "leaf.blend", tmp_path / "leaf.npz"
    report = blender.call(
        "prepare",
        timeout_s=120,
        model_path=str(tmp_path / "leaf.glb"),
        blend_path=str(blend),
        geometry_path=str(npz),
        options=asdict(ImportOptions()),
    )
    assert report["reason"] is None, report
    geometry = np.load(npz)
    view = (
        look_at(np.array([0.2, -3.0, 0.6]), np.array([0.0, 0.0, 0.5])),
        intrinsics_from_fov(0.5, SIZE, SIZE),
    )

    rgba = read_rgba(render_views(blender, job_of([(blend, np.eye(4))], [view]))[0])
    rays = RaycastingScene([(geometry["vertices"], geometry["faces"])], [geometry["transparent"]])
    seen = rays.cast_view(*view, SIZE, SIZE)

    leaf_share = (rgba[..., 3] >= 128).sum() / seen.visible_px[0]
    assert leaf_share == pytest.approx(np.pi * 30 * 14 / 64**2, abs=0.03)
    assert disagreement(rgba[..., 3], seen.instance_map) > 1000
    assert disagreement(rgba[..., 3], seen.instance_map, seen.transparent_map) == 0


def test_kept_views_of_a_scene_have_the_requested_passes(scene, blender):
    placements, world = scene
    paths, matrices = zip(*placements, strict=True)
    meshes = SceneMeshes(world, [None] * len(world), list(paths), list(matrices))
    stage = RenderViews(
        num_views=12,
        resolution_px=64,
        min_visible_fraction=0.6,
        passes=("depth", "normal", "amodal"),
        light="random",
        quality="draft",
    )

    rows = stage.render_scene(5, meshes, blender)

    assert len({row["kept"] for row in rows}) == 2
    for row in rows:
        shares = np.array(row["visible_px"]) / np.array(row["amodal_px"])
        assert row["kept"] == bool((shares >= 0.6).all())
        if not row["kept"]:
            names = ", ".join(map(str, np.flatnonzero(shares < 0.6)))
            assert row["drop_reason"] == f"occluded: placements {names}"
            assert all(row[column] is None for column in ("rgb", "instance_map", *NO_PASSES))
            continue
        masks = [read_mask(mask) for mask in row["amodal_masks"]]
        assert [int(mask.sum()) for mask in masks] == row["amodal_px"]
        seen = np.asarray(Image.open(io.BytesIO(row["instance_map"]))) > 0
        np.testing.assert_array_equal(
            np.isfinite(read_depth(row["depth_z"], row["depth_unit_m"])), seen
        )
        np.testing.assert_array_equal(read_normal(row["normal"]).any(axis=2), seen)
        wrong = disagreement(read_rgba(row["rgb"])[..., 3], seen)
        assert wrong <= MAX_DISAGREEMENT * seen.size
