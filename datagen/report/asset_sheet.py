"""The contact sheet: every object once, with its size, category and license."""

from collections import Counter

from datagen.core.sequences import evenly_spaced
from datagen.report.blocks import Block, Figure, Grid, Text
from datagen.report.images import image
from datagen.report.shading import portrait
from datagen.shards import Row
from datagen.shards.workspace import Workspace
from datagen.voxels.drawing import instance_color

MAX_ASSETS = 96
THUMBNAIL_PX = 176


def asset_sheet(workspace: Workspace) -> list[Block]:
    """Return a summary, and a thumbnail of each object's geometry, coloured by category."""
    assets = list(workspace.assets.values())
    categories = [name for name, _ in Counter(str(a["category"]) for a in assets).most_common()]
    licenses = Counter(str(asset["license"]) for asset in assets)
    shown = evenly_spaced(assets, MAX_ASSETS)
    summary = (
        f"{len(assets)} objects in {len(categories)} categories; licenses: "
        + ", ".join(f"{name} ({count})" for name, count in licenses.most_common())
        + ". Geometry without textures, flat-shaded, coloured by category. Every object fills its "
        "image."
    )
    if len(shown) < len(assets):
        summary += f" {len(shown)} of them are shown."
    cards = [_card(workspace, asset, categories.index(str(asset["category"]))) for asset in shown]
    return [Text(summary), Grid(cards, 150)]


def _card(workspace: Workspace, asset: Row, category_index: int) -> Figure:
    name = str(asset["name"])
    if asset["status"] != "ok":
        return Figure([], name, lines=[f"{asset['status']}: {asset['reason']}"])
    vertices, faces = workspace.mesh(asset["asset_id"])
    thumbnail = portrait(vertices[faces], instance_color(category_index), THUMBNAIL_PX)
    size = " × ".join(f"{side:.3g}" for side in asset["extent_m"])
    lines = [
        f"{asset['category']} · {asset['license']}",
        f"{size} m · {asset['num_faces']:,} faces",
    ]
    if asset["support"]:
        lines.append("can carry other objects")
    return Figure([image(thumbnail, name)], name, lines=lines)
