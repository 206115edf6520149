"""Repair of materials: no missing or huge images, and which materials are transparent."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

MAX_TEXTURE_PX = 1024
PACKABLE = ("FILE", "TILED", "GENERATED")
NEUTRAL = (0.5, 0.5, 0.5, 1.0)
"""Linear grey for a surface of unknown colour."""

SEE_THROUGH_NODES = {
    "BSDF_TRANSPARENT",
    "BSDF_GLASS",
    "BSDF_REFRACTION",
    "HOLDOUT",
    "VOLUME_ABSORPTION",
    "VOLUME_SCATTER",
    "PRINCIPLED_VOLUME",
}


@dataclass
class SafeMaterials:
    """The properties of M repaired materials."""

    invisible: NDArray[np.bool_]
    """(M,), in the order given: whether alpha is zero everywhere."""

    is_transparent: dict[str, bool] = field(default_factory=dict)
    """By name: whether the material has alpha below 1, an image for alpha, or transmission."""

    textures_missing: list[str] = field(default_factory=list)
    """File names of images that could not be read."""

    has_texture: bool = False
    """Whether any material has an image."""


def make_materials_safe(materials: list[bpy.types.Material | None]) -> SafeMaterials:
    """Repair materials in place and return their properties; None becomes a grey material."""
    safe = SafeMaterials(invisible=np.zeros(len(materials), bool))
    for index, material in enumerate(materials):
        if material is None:
            materials[index] = material = neutral_material()
        elif not material.use_nodes:
            color = tuple(material.diffuse_color)
            material.use_nodes = True
            set_default(principled(material), "Base Color", (*color[:3], 1.0))
        safe.textures_missing += remove_missing_textures(material)
        for node in image_nodes(material):
            pack(node.image)
            safe.has_texture = True
        safe.invisible[index] = is_invisible(material)
        safe.is_transparent[material.name] = lets_light_through(material)
    safe.textures_missing = sorted(set(safe.textures_missing))
    return safe


def neutral_material() -> bpy.types.Material:
    """Return a grey material, for faces without one."""
    material = bpy.data.materials.new("neutral")
    material.use_nodes = True
    set_default(principled(material), "Base Color", NEUTRAL)
    return material


def remove_missing_textures(material: bpy.types.Material) -> list[str]:
    """Remove images that cannot be read, which would render magenta, and return their names."""
    names = []
    for tree in node_trees(material):
        for node in [node for node in tree.nodes if node.type == "TEX_IMAGE"]:
            if node.image is not None and is_readable(node.image):
                continue
            names.append(Path(node.image.filepath).name if node.image else "unnamed")
            sockets = [link.to_socket for output in node.outputs for link in output.links]
            tree.nodes.remove(node)
            for socket in sockets:
                repair_socket(socket)
    return names


def is_readable(image: bpy.types.Image) -> bool:
    """Return whether an image has pixels that can be packed into a .blend file; films cannot."""
    return image.source in PACKABLE and min(image.size) > 0


def repair_socket(socket: bpy.types.NodeSocket) -> None:
    """Give an input that lost its image an inconspicuous value."""
    if socket.name == "Alpha":
        socket.default_value = 1.0
    elif socket.name == "Base Color" and max(socket.default_value[:3]) == 0.0:
        # Exporters write black if an image gives the colour; other colours are kept.
        socket.default_value = NEUTRAL


def pack(image: bpy.types.Image) -> None:
    """Pack an image into the .blend file; a too large one is shrunk first."""
    longest = max(image.size)
    if longest > MAX_TEXTURE_PX:
        width, height = (max(1, side * MAX_TEXTURE_PX // longest) for side in image.size)
        image.scale(width, height)
        image.pack()
    elif image.packed_file is None:
        image.pack()


def image_nodes(material: bpy.types.Material) -> Iterator[bpy.types.Node]:
    """Yield the image nodes, also those inside node groups."""
    for tree in node_trees(material):
        for node in tree.nodes:
            if node.type == "TEX_IMAGE" and node.image is not None:
                yield node


def node_trees(material: bpy.types.Material) -> list[bpy.types.NodeTree]:
    """Return the node trees of a material and of all node groups in it, at any depth."""
    trees = [material.node_tree]
    for tree in trees:  # the list grows in the loop
        for node in tree.nodes:
            if node.type == "GROUP" and node.node_tree is not None and node.node_tree not in trees:
                trees.append(node.node_tree)
    return trees


def is_invisible(material: bpy.types.Material) -> bool:
    """Return whether the material is invisible everywhere."""
    node = principled(material)
    return node is not None and not is_linked(node, "Alpha") and default(node, "Alpha") <= 0.0


def lets_light_through(material: bpy.types.Material) -> bool:
    """Return whether rays can pass through the surface somewhere."""
    nodes = [node for tree in node_trees(material) for node in tree.nodes]
    return any(
        node.type in SEE_THROUGH_NODES or (node.type == "BSDF_PRINCIPLED" and is_glassy(node))
        for node in nodes
    )


def is_glassy(node: bpy.types.Node) -> bool:
    """Return whether a Principled BSDF lets light through somewhere."""
    is_glass = is_linked(node, "Transmission Weight") or default(node, "Transmission Weight") > 0.0
    return is_glass or is_linked(node, "Alpha") or default(node, "Alpha") < 1.0


def principled(material: bpy.types.Material) -> bpy.types.Node | None:
    """Return the material's Principled BSDF, the only surface node that importers make."""
    return next((n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED"), None)


def is_linked(node: bpy.types.Node, name: str) -> bool:
    """Return whether an input gets its value from another node."""
    return node.inputs[name].is_linked


def default(node: bpy.types.Node, name: str) -> float:
    """Return an input's own value."""
    return float(node.inputs[name].default_value)


def set_default(node: bpy.types.Node | None, name: str, value: tuple[float, ...]) -> None:
    """Set an input's own value; nothing happens if ``node`` is None."""
    if node is not None:
        node.inputs[name].default_value = value
