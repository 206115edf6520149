"""A workspace with three measured shapes and no Blender: a desk, a block and a ball."""

from pathlib import Path

import numpy as np
import trimesh

from datagen.assets.measure import measure
from datagen.engine.provenance import provenance
from datagen.shards import Folder, Identity, Output
from datagen.shards.schemas import ASSETS


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
    """Write an assets dataset of the shapes, measured as the stage measures."""
    rows = []
    for name, mesh in SHAPES.items():
        path = root / "assets" / "geometry" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, vertices=mesh.vertices.astype("f4"), faces=mesh.faces.astype("i4"))
        measures = {key: value for key, value in measure(path).items() if key in ASSETS.names}
        rows += [
            dict.fromkeys(ASSETS.names)
            | dict.fromkeys(("source", "source_uid", "name", "category", "author"), name)
            | {"asset_id": f"{name}{copy or ''}", "status": "ok", "license": "CC0-1.0"}
            | measures
            | {"geometry_path": f"geometry/{name}.npz"}
            for copy in range(copies)
        ]
    rows = [row | {"object_index": index} for index, row in enumerate(rows)]
    identity = Identity("assets", 1, {}, {})
    output = Output(Folder.at(root / "assets"), identity, ASSETS, 256, "object_index")
    output.begin()
    output.write_shard(0, rows, [])
    output.seal({"counts": {}, "provenance": provenance(0.0, "a test")})
