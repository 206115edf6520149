"""``datagen export coco``: pictures and COCO instance annotations with RLE masks."""

import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.exports.views import Views, claim, view_name
from datagen.shards import Dataset, Row
from datagen.shards.storage import write_atomically

ANNOTATIONS = "annotations.json"
NO_CATEGORY = "object"
"""Of objects whose source names no category."""

Json = dict[str, Any]


def export_coco(views: Views, assets: Dataset, layouts: Dataset, out: Path) -> int:
    """Write ``images/LLLLLL_VVV.png`` and, last, ``annotations.json``; return the images' number.

    An annotation is one visible placement of a view: uncompressed RLE (column-major counts),
    ``bbox`` as x, y, width, height, ``area`` in pixels, ``category_id`` from the asset's category,
    and ``asset_id`` and ``placement`` beside COCO's own. Pictures that are there are kept.
    """
    claim(out, "coco", [views.renders, layouts, assets])
    columns = ["asset_id", "category"]
    names = {row["asset_id"]: row["category"] or NO_CATEGORY for row in assets.rows(columns)}
    categories = {name: number for number, name in enumerate(sorted(set(names.values())), 1)}
    unfinished = out / f"{ANNOTATIONS}.unfinished"
    num_images = num_annotations = 0
    with unfinished.open("w") as file, tempfile.TemporaryFile("w+") as images:
        file.write(_head(categories) + '"annotations": [')
        for render, placements in _placed_views(views, layouts):
            num_images += 1
            _write_picture(out, render)
            images.write(_item(num_images, _image(num_images, render)))
            for annotation in annotations(render):
                num_annotations += 1
                asset_id = placements[annotation["placement"]]["asset_id"]
                ids = {"id": num_annotations, "image_id": num_images, "asset_id": asset_id}
                ids["category_id"] = categories[names[asset_id]]
                file.write(_item(num_annotations, ids | annotation))
        file.write('],\n"images": [')
        images.seek(0)
        shutil.copyfileobj(images, file)
        file.write("]}\n")
    unfinished.replace(out / ANNOTATIONS)
    return num_images


def annotations(render: Row) -> Iterator[Json]:
    """Yield a view's annotations, without ids."""
    labels = np.asarray(Image.open(io.BytesIO(render["instance_map"])))
    for label in range(1, len(render["visible_px"]) + 1):
        mask = labels == label
        if not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top = int(columns[0]), int(rows[0])
        size = [int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
        yield {
            "placement": label - 1,
            "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
            "area": int(mask.sum()),
            "bbox": [left, top, *size],
            "iscrowd": 0,
        }


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed RLE of a mask (H, W): down the columns, zeros first."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts: list[int] = np.diff(edges).tolist()
    return [0, *counts] if flat[0] else counts


def _placed_views(views: Views, layouts: Dataset) -> Iterator[tuple[Row, list[Row]]]:
    for _, layout_ids in views.shards():
        for layout_id in layout_ids:
            [layout] = layouts.rows_of(layout_id, ["placements"])
            for render, _ in views.of_layout(layout_id):
                yield render, layout["placements"]


def _write_picture(out: Path, render: Row) -> None:
    picture = out / "images" / f"{view_name(render)}.png"
    if not picture.exists():
        write_atomically(picture, render["rgb"])


def _image(number: int, render: Row) -> Json:
    about = {name: render[name] for name in ("width", "height", "layout_id", "view_index")}
    return {"id": number, "file_name": f"{view_name(render)}.png", **about}


def _head(categories: dict[str, int]) -> str:
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    info = {"description": "Views of random scenes, an annotation a visible object."}
    return f'{{"info": {json.dumps(info)},\n"categories": {json.dumps(listed)},\n'


def _item(number: int, content: Json) -> str:
    """Return an entry of a JSON list that is written piece by piece."""
    return ("" if number == 1 else ",") + "\n" + json.dumps(content)
