"""``datagen export coco``: images and COCO instance annotations with RLE masks."""

import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.exports.parts import PARTS_FOLDER, part_name, read_parts, view_name, write_part
from datagen.shards import Folder, Row
from datagen.shards.workspace import Workspace

ANNOTATIONS = "annotations.json"
NO_CATEGORY = "object"
"""The category of objects whose source names none."""

_Json = dict[str, Any]


@dataclass(frozen=True)
class Coco:
    """``images/LLLLLL_VVV.png`` and ``annotations.json``.

    Each visible placement of a view has an annotation: uncompressed RLE (column-major counts),
    ``bbox`` as x, y, width, height, ``area`` in pixels, ``category_id`` from the asset's category.
    The fields ``asset_id`` and ``placement`` are added to those of COCO.
    """

    name: ClassVar[str] = "coco"
    final: ClassVar[str | None] = ANNOTATIONS
    has_instances: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("renders", "layouts", "assets")

    workspace: Workspace
    out: Folder

    @classmethod
    def of(cls, workspace: Workspace, out: Folder, *, instances: bool) -> Self:
        return cls(workspace, out)

    def part(self, shard: int) -> str:
        return part_name(shard)

    def write_shard(self, shard: int, layout_ids: Sequence[int]) -> None:
        """Write a shard's images, and their annotations without ids."""
        lines = []
        for layout_id in layout_ids:
            layout = self.workspace.layout(layout_id)
            assert layout is not None, layout_id
            ids = [placement["asset_id"] for placement in layout["placements"]]
            for render in self.workspace.kept_views(layout_id):
                self.out.write_bytes(f"images/{view_name(render)}.png", render["rgb"])
                found = [{"asset_id": ids[a["placement"]], **a} for a in annotations(render)]
                lines.append({"image": _image(render), "annotations": found})
        write_part(self.out, shard, lines)

    def finish(self, shards: Sequence[int]) -> str:
        """Number images and annotations and write ``annotations.json``."""
        assets = self.workspace.assets
        names = {name: row["category"] or NO_CATEGORY for name, row in assets.items()}
        categories = {name: number for number, name in enumerate(sorted(set(names.values())), 1)}
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / ANNOTATIONS
            with path.open("w") as file:
                file.write(_head(categories) + '"annotations": [')
                found = _numbered(read_parts(self.out, shards))
                for number, (image_id, annotation) in enumerate(found, 1):
                    category_id = categories[names[annotation["asset_id"]]]
                    ids = {"id": number, "image_id": image_id, "category_id": category_id}
                    file.write(_item(number, ids | annotation))
                file.write('],\n"images": [')
                count = 0
                for count, line in enumerate(read_parts(self.out, shards), 1):
                    file.write(_item(count, {"id": count, **line["image"]}))
                file.write("]}\n")
            self.out.write_file(ANNOTATIONS, path)
        (self.out / PARTS_FOLDER).delete_folder()
        return f"{count} images"


def annotations(render: Row) -> Iterator[_Json]:
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
    """Return COCO's uncompressed RLE of a mask (H, W): column by column, zeros first."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts: list[int] = np.diff(edges).tolist()
    return [0, *counts] if flat[0] else counts


def _numbered(lines: Iterator[_Json]) -> Iterator[tuple[int, _Json]]:
    """Yield each annotation after the id of its image."""
    for image_id, line in enumerate(lines, 1):
        for annotation in line["annotations"]:
            yield image_id, annotation


def _image(render: Row) -> _Json:
    about = {name: render[name] for name in ("width", "height", "layout_id", "view_index")}
    return {"file_name": f"{view_name(render)}.png", **about}


def _head(categories: dict[str, int]) -> str:
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    info = {"description": "Views of random scenes, an annotation a visible object."}
    return f'{{"info": {json.dumps(info)},\n"categories": {json.dumps(listed)},\n'


def _item(number: int, content: _Json) -> str:
    """Return an entry of a JSON list that is written piece by piece."""
    return ("" if number == 1 else ",") + "\n" + json.dumps(content)
