"""The contact sheet: every object once, with its size, category and license."""

from collections import Counter
from html import escape

from datagen.core.sequences import evenly_spaced
from datagen.report.markup import figure, grid, image, paragraph
from datagen.report.shading import portrait
from datagen.shards import Row
from datagen.shards.workspace import Workspace
from datagen.voxels.drawing import instance_color

MAX_ASSETS = 96
THUMBNAIL_PX = 176


def asset_sheet(workspace: Workspace) -> str:
    """Return a thumbnail an object, from its geometry, coloured by category."""
    assets = list(workspace.assets.values())
    categories = [name for name, _ in Counter(str(a["category"]) for a in assets).most_common()]
    licenses = Counter(str(asset["license"]) for asset in assets)
    shown = evenly_spaced(assets, MAX_ASSETS)
    summary = (
        f"{len(assets)} objects in {len(categories)} categories; licenses: "
        + ", ".join(f"{name} ({count})" for name, count in licenses.most_common())
        + ". Geometry alone, flat-shaded, coloured by category; every object fills its picture."
    )
    if len(shown) < len(assets):
        summary += f" {len(shown)} of them are shown."
    cards = [_card(workspace, asset, categories.index(str(asset["category"]))) for asset in shown]
    return paragraph(summary) + grid(cards, 150)


def _card(workspace: Workspace, asset: Row, category_index: int) -> str:
    name = escape(str(asset["name"]))
    if asset["status"] != "ok":
        reason = escape(str(asset["reason"]))
        return figure("", f"<b>{name}</b><br>{escape(str(asset['status']))}: {reason}")
    color = instance_color(category_index)
    vertices, faces = workspace.mesh(asset["asset_id"])
    picture = portrait(vertices[faces], color, THUMBNAIL_PX)
    size = " × ".join(f"{side:.3g}" for side in asset["extent_m"])
    support = "<br>can carry things" if asset["support"] else ""
    caption = (
        f"<b>{name}</b><br>{escape(str(asset['category']))} · {escape(str(asset['license']))}"
        f"<br>{size} m · {asset['num_faces']:,} faces{support}"
    )
    return figure(image(picture, str(asset["name"])), caption)
