"""A workspace with three measured shapes: a desk, a block and a ball. It needs no Blender."""

from pathlib import Path

import trimesh

from datagen.assets.measure import measure
from datagen.shards.declared import ASSETS
from tests.shards.tiny import asset_row, write


def box(size, center):
    return trimesh.creation.box(size).apply_translation(center)


def desk():
    legs = [box((0.05, 0.05, 0.7), (x, y, 0.35)) for x in (-0.6, 0.6) for y in (-0.3, 0.3)]
    shelf = box((1.4, 0.2, 0.02), (0, 0.25, 1.1))
    ends = [box((0.02, 0.2, 0.4), (x, 0.25, 0.9)) for x in (-0.69, 0.69)]
    return trimesh.util.concatenate([box((1.4, 0.7, 0.04), (0, 0, 0.72)), shelf, *ends, *legs])


SHAPES = {
    "desk": desk(),
    "block": box((0.5, 0.3, 0.2), (0, 0, 0.1)),
    "ball": trimesh.creation.icosphere(3, 0.2).apply_translation([0, 0, 0.2]),
}


def write_assets(root: Path, copies: int = 1) -> None:
    """Write an assets dataset of the shapes, with the stage's measurements."""
    rows = []
    for name, mesh in SHAPES.items():
        row = asset_row(root, name, mesh.vertices, mesh.faces)
        measured = measure(root / "assets" / row["geometry_path"])
        row |= {key: value for key, value in measured.items() if key in ASSETS.schema.names}
        rows += [row | {"asset_id": f"{name}{copy or ''}"} for copy in range(copies)]
    rows = [row | {"object_index": index} for index, row in enumerate(rows)]
    write(root, "assets", "assets", ASSETS.schema, rows, {}, unit="object_index")
