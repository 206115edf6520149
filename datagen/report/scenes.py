"""Parts of the chapters about scenes: which scenes are shown, names of objects, images."""

import numpy as np
from numpy.typing import NDArray

from datagen.shards import Row
from datagen.shards.workspace import Workspace
from datagen.views.passes import read_rgba

NUM_SCENES = 5
"""Number of scenes whose views are shown. The first ones, so that chapters show the same."""


def scenes_with_views(workspace: Workspace) -> list[int]:
    """Return the first NUM_SCENES ``layout_id`` that have a kept view."""
    found: dict[int, None] = {}
    for row in workspace.require("renders", "report").rows(["layout_id", "kept"]):
        if row["kept"]:
            found[row["layout_id"]] = None
        if len(found) == NUM_SCENES:
            break
    return list(found)


def placement_name(workspace: Workspace, placement: Row) -> str:
    """Return the name of a placement's asset, or the start of its id if the asset is missing."""
    asset = workspace.assets.get(placement["asset_id"])
    return str(asset["name"]) if asset else str(placement["asset_id"])[:8]


def input_image(workspace: Workspace, layout_id: int, view_index: int) -> NDArray[np.uint8] | None:
    """Return a view's image as RGBA (H, W, 4); None if the view is missing or was dropped."""
    view = workspace.view(layout_id, view_index, ["rgb"])
    return None if view is None or view["rgb"] is None else read_rgba(view["rgb"])
