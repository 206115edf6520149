"""The chapters of views and voxels: rendered views, instance maps, dropped views, voxels."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from datagen.core.meshes import Mesh
from datagen.core.sequences import evenly_spaced
from datagen.report.blocks import Block, Figure, Grid, Heading, Key, Text
from datagen.report.charts import direction_map
from datagen.report.images import image
from datagen.report.scenes import input_image, placement_name, scenes_with_views
from datagen.report.shading import shade
from datagen.shards import Row
from datagen.shards.workspace import Workspace
from datagen.views.passes import read_instance_map, read_rgba
from datagen.voxels import unpack_instances
from datagen.voxels.drawing import color_instances, draw_voxels, instance_color

VIEWS_A_SCENE = 6
DROPPED_A_SCENE = 3
_DROPPED_PX = 200
_KEPT = "kept"
_DOT_COLORS = ("#8a929e", "#e4a11b", "#d0473d", "#9660be", "#3eb2b2")


def view_rows(workspace: Workspace) -> list[Block]:
    """Return kept views beside their instance maps, and why and where others were dropped."""
    text = Text(
        "Each view: the rendered image beside its instance map, in the colours of the plans. "
        "Dropped views were never rendered; their images here are ray-cast with the same colours."
    )
    scenes = [_scene_views(workspace, layout_id) for layout_id in scenes_with_views(workspace)]
    return [text, *chain.from_iterable(scenes)]


def voxel_rows(workspace: Workspace) -> list[Block]:
    """Return true voxels, each beside the view in whose frame they are."""
    text = Text(
        "The 64³ voxels of a view, in the frame of the view: the scene is rotated about the up "
        "axis so that the camera is in front of it, and it fills the outlined cube. Voxels are "
        "always drawn from the front, a little from the right and from above, whatever the "
        "camera's height."
    )
    cards = []
    for layout_id in scenes_with_views(workspace):
        latents = workspace.require("latents", "report").rows_of(layout_id)
        cards += [_voxel_card(workspace, latent) for latent in evenly_spaced(latents, 2)]
    return [text, Grid(cards, 380)]


def _scene_views(workspace: Workspace, layout_id: int) -> list[Block]:
    views = workspace.require("renders", "report").rows_of(layout_id)
    layout = workspace.layout(layout_id)
    placements = [] if layout is None else layout["placements"]
    names = [f"{i} {placement_name(workspace, p)}" for i, p in enumerate(placements)]
    kept = [view for view in views if view["kept"]]
    dropped = [view for view in views if not view["kept"]]
    heading = f"scene {layout_id}: {len(kept)} views kept, {len(dropped)} dropped"
    others = [_direction_card(views)]
    if layout is not None and workspace.assets and dropped:
        meshes = workspace.scene_meshes(layout).meshes
        shown = evenly_spaced(dropped, DROPPED_A_SCENE)
        others += [_dropped_card(meshes, view, names) for view in shown]
    cards = [_kept_card(view, names) for view in evenly_spaced(kept, VIEWS_A_SCENE)]
    return [Heading(heading), Grid(cards, 340), Grid(others, 260)]


def _kept_card(view: Row, names: list[str]) -> Figure:
    rendered = image(read_rgba(view["rgb"]), f"view {view['view_index']}")
    instance_map = color_instances(read_instance_map(view["instance_map"]))
    images = [rendered, image(instance_map, "instance map", exact=True)]
    fraction, index = _least_visible(view)
    name = names[index] if names else str(index)
    details = f"least visible: {name}, {fraction:.0%}"
    return Figure(images, f"view {view['view_index']}", details)


def _dropped_card(meshes: Sequence[Mesh], view: Row, names: list[str]) -> Figure:
    triangles = [vertices[faces] for vertices, faces in meshes]
    colors = [
        np.broadcast_to(np.array(instance_color(i), np.float64), (len(t), 3))
        for i, t in enumerate(triangles)
    ]
    factor = _DROPPED_PX / max(view["width"], view["height"])
    intrinsics = np.array(view["intrinsics"])
    intrinsics[:2] *= factor
    size_px = (round(view["width"] * factor), round(view["height"] * factor))
    drawn = shade(
        np.concatenate(triangles),
        np.concatenate(colors),
        view["world_to_camera"],
        intrinsics,
        size_px,
    )
    fraction, index = _least_visible(view)
    visible, whole = view["visible_px"][index], view["amodal_px"][index]
    title = f"view {view['view_index']} dropped: {view['drop_reason']}"
    line = f"{names[index]}: {visible:,} of {whole:,} px visible ({fraction:.0%})"
    shown = image(drawn, f"dropped view {view['view_index']}")
    return Figure([shown], title, lines=[line])


def _least_visible(view: Row) -> tuple[float, int]:
    """Return the smallest visible share of all placements, and the index of that placement."""
    shares = np.array(view["visible_px"]) / np.maximum(view["amodal_px"], 1)
    index = int(np.argmin(shares))
    return float(shares[index]), index


def _direction_card(views: list[Row]) -> Figure:
    """Return where the cameras are, those of dropped views coloured by reason."""
    # A camera looks along its Z axis at the scene, so it is in the direction of -Z.
    towards_camera = np.array([-np.asarray(view["world_to_camera"])[2, :3] for view in views])
    labels = [_KEPT if view["kept"] else str(view["drop_reason"]) for view in views]
    counts = Counter(labels)
    reasons = sorted({label for label in labels if label != _KEPT})
    colors = {_KEPT: _DOT_COLORS[0]}
    colors |= {r: _DOT_COLORS[1 + i % (len(_DOT_COLORS) - 1)] for i, r in enumerate(reasons)}
    legend = [Key(c, f"{counts[name]} {name}") for name, c in colors.items() if counts[name]]
    return Figure([direction_map(towards_camera, labels, colors)], legend=legend)


def _voxel_card(workspace: Workspace, latent: Row) -> Figure:
    grids = unpack_instances(latent["occupancy"].tobytes())
    shown = input_image(workspace, latent["layout_id"], latent["view_index"])
    voxels = image(draw_voxels(grids), "voxels", max_px=480, exact=True)
    images = [voxels] if shown is None else [image(shown, "input"), voxels]
    counts = ", ".join(str(int(grid.sum())) for grid in grids)
    title = f"scene {latent['layout_id']}, view {latent['view_index']}"
    return Figure(images, title, f"voxels of each instance: {counts}")
