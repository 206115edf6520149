"""``datagen export``: copies of a workspace in the layouts of other tools."""

from pathlib import Path
from typing import Literal

from datagen.exports.coco import export_coco
from datagen.exports.trellis import export_trellis
from datagen.exports.views import Views, open_needed
from datagen.exports.webdataset import export_webdataset
from datagen.shards import Folder
from datagen.shards.dataset import MANIFEST

Kind = Literal["webdataset", "trellis", "coco"]


def export(kind: Kind, root: Folder, out: Path) -> str:
    """Export a workspace's kept views into a local folder; go on if some of it is there.

    Returns:
        What was written, in words.

    Raises:
        DatasetError: a dataset is missing that this export needs.
        ConfigError: ``out`` holds something else.
    """
    renders = open_needed(root, "renders", "render")
    if kind == "trellis":
        encoded = Views(renders, open_needed(root, "latents", "encode"))
        return f"{export_trellis(encoded, out)} views"
    if kind == "coco":
        assets = open_needed(root, "assets", "assets")
        layouts = open_needed(root, "layouts", "layouts")
        return f"{export_coco(Views(renders, None), assets, layouts, out)} pictures"
    is_encoded = (root / "latents").exists(MANIFEST)
    latents = open_needed(root, "latents", "encode") if is_encoded else None
    return f"{export_webdataset(Views(renders, latents), out)} tars"
