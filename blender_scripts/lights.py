"""Lamps, sky and ground of a scene; what equals the current one is kept."""

from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

MAX_HDRI_PX = 2048  # it is never visible itself, and 8k images take half a gigabyte
LAMP, GROUND = "lamp", "ground"

_light: dict[str, Any] = {}  # the current light, as in the job


def forget_light() -> None:
    """Make the next job set its light, because its scene is new."""
    _light.clear()


def set_light(scene: bpy.types.Scene, light: dict[str, Any]) -> None:
    """Set the lamps and the sky of a scene.

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
    """Set or remove the plane that catches shadows.

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
    """Hide the ground from a camera below it, because it would hide the scene.

    It still blocks light. It also stops being a shadow catcher: the denoiser would leave noise of
    alpha 1 to 16 around objects, although no camera ray hits the ground.
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
    item.matrix_world = _lamp_matrix(np.array(lamp["to_lamp"]), lamp["position_m"])
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
    hdri = _hdri(light["hdri"])
    direction = tree.nodes.new("ShaderNodeTexCoord")
    rotation = tree.nodes.new("ShaderNodeMapping")
    rotation.inputs["Rotation"].default_value = (0.0, 0.0, light["hdri_rotation_rad"])
    texture = tree.nodes.new("ShaderNodeTexEnvironment")
    texture.image = hdri
    tree.links.new(direction.outputs["Generated"], rotation.inputs["Vector"])
    tree.links.new(rotation.outputs["Vector"], texture.inputs["Vector"])
    tree.links.new(texture.outputs["Color"], background.inputs["Color"])
    background.inputs["Strength"].default_value = light["sky_radiance"] / _mean_radiance(hdri)


def _hdri(path: str) -> bpy.types.Image:
    """Return the image of a sky, and remove the last one."""
    for image in [image for image in bpy.data.images if image.name.startswith("hdri")]:
        bpy.data.images.remove(image)
    image = bpy.data.images.load(path)
    image.name = "hdri"
    if min(image.size) < 1:
        raise ValueError(f"{path}: Blender cannot read it; expected an .hdr or .exr image")
    if image.size[0] > MAX_HDRI_PX:
        image.scale(MAX_HDRI_PX, max(1, image.size[1] * MAX_HDRI_PX // image.size[0]))
    return image


def _mean_radiance(image: bpy.types.Image) -> float:
    """Return the mean luminance (Rec. 709) of a sky over the sphere."""
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


def _lamp_matrix(to_lamp: np.ndarray, position_m: list[float]) -> Matrix:
    """Return the ``matrix_world`` of a lamp, which shines along its own -Z.

    Args:
        to_lamp: (3,), direction to the lamp from what it lights, of any length.
        position_m: (3,), metres.
    """
    back = to_lamp / np.linalg.norm(to_lamp)
    right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([right, np.cross(back, right), back])
    matrix[:3, 3] = position_m
    return Matrix(matrix.tolist())
