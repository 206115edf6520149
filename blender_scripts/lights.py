"""Lamps, sky and ground of a scene, as the job says them; left alone where nothing changed."""

from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

MAX_HDRI_PX = 2048  # its background is never seen, and 8k pictures take half a gigabyte
LAMP, GROUND = "lamp", "ground"

_light: dict[str, Any] = {}  # what shines now, as the job spelled it


def forget_light() -> None:
    """Let the next job set its light up, since the scene that had it is gone."""
    _light.clear()


def set_light(scene: bpy.types.Scene, light: dict[str, Any]) -> None:
    """Make lamps and sky those of the job.

    Args:
        scene: the scene to light.
        light: ``lamps`` [{``kind``, ``power``, ``to_lamp`` (3), ``position_m`` (3), ``size``,
            ``color`` (3)}], ``sky_radiance``, ``hdri`` (a path or None), ``hdri_rotation_rad``.
    """
    if _light == light:
        return
    for item in [item for item in scene.collection.objects if item.name.startswith(LAMP)]:
        bpy.data.lights.remove(item.data)
    for lamp in light["lamps"]:
        scene.collection.objects.link(_lamp(lamp))
    _set_sky(scene, light)
    _light.clear()
    _light.update(light)


def set_ground(scene: bpy.types.Scene, ground: dict[str, Any] | None) -> None:
    """Lay a plane that catches shadows, or take it away.

    Args:
        scene: the scene.
        ground: ``center_m`` (3) and ``side_m``; None: no ground.
    """
    item = bpy.data.objects.get(GROUND)
    if ground is None:
        if item is not None:
            bpy.data.meshes.remove(item.data)
        return
    if item is None:
        mesh = bpy.data.meshes.new(GROUND)
        square = [(-0.5, -0.5, 0.0), (0.5, -0.5, 0.0), (0.5, 0.5, 0.0), (-0.5, 0.5, 0.0)]
        mesh.from_pydata(square, [], [(0, 1, 2, 3)])
        item = bpy.data.objects.new(GROUND, mesh)
        item.is_shadow_catcher = True
        scene.collection.objects.link(item)
    item.matrix_world = Matrix.LocRotScale(ground["center_m"], None, [ground["side_m"]] * 3)


def show_ground_from_above(camera: bpy.types.Object) -> None:
    """Hide the ground from a camera below it, to which it would hide the scene.

    There it only keeps light away. A catcher that no camera ray can meet would still make the
    denoiser leave dust of alpha 1 to 16 around objects.
    """
    item = bpy.data.objects.get(GROUND)
    if item is None:
        return
    is_above = camera.matrix_world.translation.z > item.matrix_world.translation.z
    if item.visible_camera != is_above:
        item.visible_camera = item.is_shadow_catcher = is_above


def _lamp(lamp: dict[str, Any]) -> bpy.types.Object:
    data = bpy.data.lights.new(LAMP, lamp["kind"])
    data.energy, data.color = lamp["power"], lamp["color"]
    if lamp["kind"] == "SUN":
        data.angle = lamp["size"]
    elif lamp["kind"] == "AREA":
        data.size = lamp["size"]
    else:
        data.shadow_soft_size = lamp["size"]
    item = bpy.data.objects.new(LAMP, data)
    item.matrix_world = _pointing(np.array(lamp["to_lamp"]), lamp["position_m"])
    return item


def _set_sky(scene: bpy.types.Scene, light: dict[str, Any]) -> None:
    if scene.world is None:
        scene.world = bpy.data.worlds.new(scene.name)
        scene.world.use_nodes = True
    tree = scene.world.node_tree
    for node in [node for node in tree.nodes if node.type not in ("BACKGROUND", "OUTPUT_WORLD")]:
        tree.nodes.remove(node)
    background = tree.nodes["Background"]
    background.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    background.inputs["Strength"].default_value = light["sky_radiance"]
    if light["hdri"] is None:
        return
    picture = _hdri(light["hdri"])
    around = tree.nodes.new("ShaderNodeTexCoord")
    turned = tree.nodes.new("ShaderNodeMapping")
    turned.inputs["Rotation"].default_value = (0.0, 0.0, light["hdri_rotation_rad"])
    looked_up = tree.nodes.new("ShaderNodeTexEnvironment")
    looked_up.image = picture
    tree.links.new(around.outputs["Generated"], turned.inputs["Vector"])
    tree.links.new(turned.outputs["Vector"], looked_up.inputs["Vector"])
    tree.links.new(looked_up.outputs["Color"], background.inputs["Color"])
    background.inputs["Strength"].default_value = light["sky_radiance"] / _mean_radiance(picture)


def _hdri(path: str) -> bpy.types.Image:
    """Load a picture of a sky in place of the last one."""
    for image in [image for image in bpy.data.images if image.name.startswith("hdri")]:
        bpy.data.images.remove(image)
    image = bpy.data.images.load(path)
    image.name = "hdri"
    if min(image.size) < 1:
        raise ValueError(f"{path}: Blender cannot read it; expected an .hdr or .exr picture")
    if image.size[0] > MAX_HDRI_PX:
        image.scale(MAX_HDRI_PX, max(1, image.size[1] * MAX_HDRI_PX // image.size[0]))
    return image


def _mean_radiance(image: bpy.types.Image) -> float:
    """Return the mean over the sphere of a sky's luminance (Rec. 709)."""
    width, height = image.size
    pixels = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(pixels)
    rows = pixels.reshape(height, width, image.channels)[..., :3].mean(axis=1, dtype=np.float64)
    latitudes = (np.arange(height) + 0.5) / height * np.pi - np.pi / 2
    areas = np.cos(latitudes)
    mean = float((rows @ [0.2126, 0.7152, 0.0722] * areas).sum() / areas.sum())
    if not mean > 0.0:
        raise ValueError(f"{image.filepath}: its mean radiance is {mean}; expected a bright sky")
    return mean


def _pointing(direction: np.ndarray, position_m: list[float]) -> Matrix:
    """Return the ``matrix_world`` of a lamp at a position that shines from a direction (3,).

    A lamp shines along its own -Z.
    """
    back = direction / np.linalg.norm(direction)
    right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([right, np.cross(back, right), back])
    matrix[:3, 3] = position_m
    return Matrix(matrix.tolist())
