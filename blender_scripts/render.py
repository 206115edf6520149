"""The ``render`` job: one image per view of a scene, by Cycles.

A job has prepared meshes and views; the image of a view is written to the view's path. Meshes stay
loaded from scene to scene, and Cycles keeps its data from view to view. Beside ray tracing a view
then takes about 10 ms.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from compat import append_mesh
from lights import forget_light, set_ground, set_light, show_ground_from_above

SCENE = "datagen"
CACHED_MESHES = 64  # with textures of 1024 px, at most some hundred MB
PLACEMENT = "placement"

_meshes: "OrderedDict[str, str]" = OrderedDict()  # prepared path -> name of the mesh, oldest first
_placed: list[Any] = []  # the placements in the scene, as in the job


def render(job: dict[str, Any]) -> dict[str, Any]:
    """Render the views of one job and return their number.

    Args:
        job: ``placements`` [{``prepared_path``, ``asset_to_world`` (16 numbers, row-major)}],
            ``views`` [{``camera_to_world_gl`` (16), ``fov_rad`` (of the longer side), ``seed``,
            ``border`` (left, bottom, right, top as shares of the image), ``path``}], ``width``,
            ``height``, ``samples``, ``denoise``, ``threads`` (0: all), ``light`` (see
            ``set_light``) and ``ground`` (see ``set_ground``).

    Raises:
        RuntimeError: Blender wrote no image.
    """
    scene = _scene()
    _place(scene, job["placements"])
    set_light(scene, job["light"])
    set_ground(scene, job["ground"])
    _set_quality(scene, job)
    for view in job["views"]:
        _aim(scene, view)
        bpy.ops.render.render(scene=scene.name, write_still=True)
        if not Path(view["path"]).is_file():
            raise RuntimeError(f"Blender reported success but wrote no {view['path']}")
    return {"views": len(job["views"])}


def _aim(scene: bpy.types.Scene, view: dict[str, Any]) -> None:
    scene.camera.data.angle = view["fov_rad"]
    scene.camera.matrix_world = _matrix(view["camera_to_world_gl"])
    show_ground_from_above(scene.camera)
    scene.cycles.seed = view["seed"]
    output = scene.render
    output.border_min_x, output.border_min_y, output.border_max_x, output.border_max_y = view[
        "border"
    ]
    output.filepath = view["path"]


def _scene() -> bpy.types.Scene:
    """Return the scene with its camera and its settings; it is made by the first call."""
    scene = bpy.data.scenes.get(SCENE)
    if scene is not None and scene.camera is not None:
        return scene
    if scene is not None:  # a prepare job has removed the camera
        bpy.data.scenes.remove(scene)
    scene = bpy.data.scenes.new(SCENE)
    _meshes.clear()
    _placed.clear()
    forget_light()
    _set_up_cycles(scene)
    _set_up_output(scene)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.sensor_fit = "AUTO"  # the angle is then that of the longer image side
    camera.data.clip_start, camera.data.clip_end = 1e-3, 1e4
    scene.collection.objects.link(camera)
    scene.camera = camera
    return scene


def _set_up_cycles(scene: bpy.types.Scene) -> None:
    scene.render.engine = "CYCLES"
    scene.render.use_persistent_data = True
    scene.render.film_transparent = True
    cycles = scene.cycles
    cycles.use_adaptive_sampling = False
    cycles.use_auto_tile = False
    # A filter of one pixel, so that a pixel's alpha is the share of it that objects cover.
    cycles.pixel_filter_type = "BOX"
    cycles.filter_width = 1.0
    cycles.max_bounces = 6
    cycles.diffuse_bounces = 2
    cycles.glossy_bounces = 2
    cycles.transmission_bounces = 6  # into and out of a glass and its content
    cycles.transparent_max_bounces = 16  # layers of leaves
    cycles.volume_bounces = 0
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0  # the denoiser would enlarge fireflies to blobs
    cycles.use_light_tree = False  # for a few lamps it costs more than it saves


def _set_up_output(scene: bpy.types.Scene) -> None:
    output = scene.render
    output.resolution_percentage = 100
    output.pixel_aspect_x = output.pixel_aspect_y = 1.0
    output.use_border, output.use_crop_to_border = True, False
    output.use_compositing = output.use_sequencer = False
    output.use_file_extension = False
    output.dither_intensity = 0.0
    output.image_settings.file_format = "PNG"
    output.image_settings.color_mode = "RGBA"
    output.image_settings.color_depth = "8"
    output.image_settings.compression = 15
    scene.display_settings.display_device = "sRGB"
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"
    scene.view_settings.exposure, scene.view_settings.gamma = 0.0, 1.0


def _set_quality(scene: bpy.types.Scene, job: dict[str, Any]) -> None:
    scene.render.resolution_x, scene.render.resolution_y = job["width"], job["height"]
    scene.render.threads_mode = "FIXED" if job["threads"] else "AUTO"
    if job["threads"]:
        scene.render.threads = job["threads"]
    cycles = scene.cycles
    if cycles.samples != job["samples"]:
        # Cycles would keep the noise pattern of the old number, so its data is dropped once.
        scene.render.use_persistent_data = False
        scene.render.use_persistent_data = True
    cycles.device = job["device"]
    cycles.samples = job["samples"]
    cycles.use_denoising = job["denoise"]
    if job["denoise"]:
        cycles.denoiser = "OPENIMAGEDENOISE"
        cycles.denoising_input_passes = "RGB_ALBEDO_NORMAL"
        cycles.denoising_prefilter = "NONE"  # with FAST quality, denoising takes 0.1 of 1.1 s
        cycles.denoising_quality = "FAST"
        cycles.denoising_use_gpu = False


def _place(scene: bpy.types.Scene, placements: list[dict[str, Any]]) -> None:
    """Replace the scene's objects by those of the job, unless they are the same."""
    if _placed == placements:
        return
    for item in [item for item in scene.collection.objects if item.name.startswith(PLACEMENT)]:
        bpy.data.objects.remove(item)
    _placed.clear()
    for placement in placements:
        item = bpy.data.objects.new(PLACEMENT, _mesh(placement["prepared_path"]))
        item.matrix_world = _matrix(placement["asset_to_world"])
        scene.collection.objects.link(item)
    _forget_old_meshes()
    _placed.extend(placements)


def _mesh(path: str) -> bpy.types.Mesh:
    """Return the mesh of a prepared file, with its materials and images; loaded meshes are kept."""
    mesh = bpy.data.meshes.get(_meshes.get(path, ""))
    if mesh is None:
        mesh = append_mesh(path, "asset")
        mesh.use_fake_user = True  # keeps it between scenes
        _meshes[path] = mesh.name
    _meshes.move_to_end(path)
    return mesh


def _forget_old_meshes() -> None:
    """Remove the least recently used meshes, and the data that only they used."""
    old = list(_meshes)[:-CACHED_MESHES]
    for path in old:
        mesh = bpy.data.meshes.get(_meshes[path])
        if mesh is not None and mesh.users > 1:  # it is in the current scene
            continue
        del _meshes[path]
        if mesh is not None:
            bpy.data.meshes.remove(mesh)
    if old:
        bpy.data.orphans_purge(do_recursive=True)


def _matrix(row_major: list[float]) -> Matrix:
    return Matrix(np.reshape(row_major, (4, 4)).tolist())
