"""A whole workspace of four small scenes, written through the library without any rendering."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from datagen.core.cameras import intrinsics_from_fov, look_at
from datagen.core.frames import transform_points
from datagen.core.seeding import rng_for
from datagen.evaluation.tables import COMPARISON
from datagen.shards import Dataset, Folder, Identity, Output, Row
from datagen.shards.declared import ASSETS, LATENTS, LAYOUTS, PREDICTIONS, RENDERS, SCENES
from datagen.voxels import view_centric_transform, voxelize_surface

SIZE_PX = 16
NUM_LAYOUTS = 4
NUM_VIEWS = 3
"""The last of each scene is dropped."""
LICENSES = ("CC0-1.0", "CC-BY-4.0")

BOX = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])
FACES = np.array(
    [[0, 2, 3], [0, 3, 1], [4, 5, 7], [4, 7, 6], [0, 1, 5], [0, 5, 4], [2, 6, 7], [2, 7, 3]]
    + [[0, 4, 6], [0, 6, 2], [1, 3, 7], [1, 7, 5]],
    np.int32,
)


def make_workspace(root: Path) -> Path:
    """Write a dataset of every table but the scores; return the root."""
    assets = make_assets(root)
    layouts = write(
        root, "layouts", "layouts", LAYOUTS.schema, layout_rows(assets), {"assets": assets}
    )
    rows = render_rows(list(layouts))
    inputs = {"assets": assets, "layouts": layouts}
    renders = write(root, "render", "renders", RENDERS.schema, rows, inputs, scenes_per_shard=2)
    inputs |= {"renders": renders}
    rows = latent_rows(list(layouts), rows)
    latents = write(root, "encode", "latents", LATENTS.schema, rows, inputs, scenes_per_shard=2)
    model = make_model(root, "model", {"renders": renders, "latents": latents})
    make_model(root, "slat_model", {"renders": renders, "latents": latents})
    inputs = {"renders": renders, "latents": latents, "model": model}
    write(root, "infer", "predictions", PREDICTIONS.schema, prediction_rows(root, rows), inputs)
    rows = image_scene_rows(root / "scenes/rooms")
    write(root, "infer", "scenes/rooms", SCENES.schema, rows, {"model": model}, unit="image_index")
    rows = comparison_rows()
    write(root, "evaluate", "comparison", COMPARISON.schema, rows, {}, unit="pair_index")
    return root


def make_assets(root: Path) -> Dataset:
    rows = []
    for index, license_id in enumerate(LICENSES):
        asset_id = hashlib.sha256(bytes([index])).hexdigest()
        prepared = f"prepared/{asset_id}.blend"
        Folder.at(root / "assets").write_bytes(prepared, b"BLENDER")
        row = asset_row(root, asset_id, BOX, FACES)
        row |= {"object_index": index, "source": "folder", "source_uid": f"box{index}"}
        row |= {"name": f"Box {index}", "category": "box", "license": license_id}
        row |= {"extent_m": [1.0, 1.0, 1.0], "radius_m": 0.7072, "watertight": True}
        rows.append(row | {"author": "A. Maker", "prepared_path": prepared})
    return write(root, "assets", "assets", ASSETS.schema, rows, {}, unit="object_index")


def asset_row(root: Path, name: str, vertices: np.ndarray, faces: np.ndarray) -> Row:
    """Write a mesh's geometry file and return the row of a usable asset that is called ``name``."""
    path = root / "assets" / "geometry" / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, vertices=vertices.astype(np.float32), faces=faces.astype(np.int32))
    row: Row = dict.fromkeys(ASSETS.schema.names)
    row |= dict.fromkeys(("asset_id", "source", "source_uid", "name", "category", "author"), name)
    row |= {"license": "CC0-1.0", "status": "ok", "geometry_path": f"geometry/{name}.npz"}
    return row | {"num_vertices": len(vertices), "num_faces": len(faces)}


def layout_rows(assets: Dataset) -> list[Row]:
    ids = [row["asset_id"] for row in assets]
    rows = []
    for layout_id in range(NUM_LAYOUTS):
        placements = [
            {
                "asset_id": asset_id,
                "scale": 1.0,
                "yaw_rad": 0.1 * layout_id,
                "position_m": [2.0 * index, 0.0, 0.0],
                "radius_m": 0.7072,
                "supported_by": -1,
            }
            for index, asset_id in enumerate(ids)
        ]
        row: Row = dict.fromkeys(LAYOUTS.schema.names)
        rows.append(row | {"layout_id": layout_id, "seed": 0, "placements": placements})
    return rows


def render_rows(layouts: list[Row]) -> list[Row]:
    """Return views whose images are noise within two rectangles."""
    rows = []
    for layout in layouts:
        for view_index in range(NUM_VIEWS):
            kept = view_index < NUM_VIEWS - 1
            rng = rng_for(0, "tiny", layout["layout_id"], view_index)
            instance_map = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
            instance_map[2:8, 1:7] = 1
            instance_map[5:14, 5 + view_index : 12] = 2  # hides a corner of the first
            rgba = rng.integers(0, 256, (SIZE_PX, SIZE_PX, 4)).astype(np.uint8)
            rgba[..., 3] = 255 * (instance_map > 0)
            visible = np.bincount(instance_map.ravel(), minlength=3)[1:].tolist()
            eye = [1.0 + 3 * np.cos(view_index), -6.0, 2.0]
            row: Row = dict.fromkeys(RENDERS.schema.names)
            row |= {"layout_id": layout["layout_id"], "view_index": view_index, "kept": kept}
            row |= {"drop_reason": None if kept else "occluded: placement 0"}
            row |= {"world_to_camera": look_at(np.array(eye), np.array([1.0, 0.0, 0.5]))}
            row |= {"intrinsics": intrinsics_from_fov(0.7, SIZE_PX, SIZE_PX)}
            row |= {"width": SIZE_PX, "height": SIZE_PX}
            row |= {
                "visible_px": visible if kept else [0, visible[1]],
                "amodal_px": [36, 9 * (7 - view_index)],
            }
            row |= {"rgb": png(rgba) if kept else None}
            row |= {"instance_map": png(instance_map) if kept else None}
            rows.append(row)
    return rows


def latent_rows(layouts: list[Row], renders: list[Row]) -> list[Row]:
    rows = []
    for render in renders:
        if not render["kept"]:
            continue
        [layout] = [row for row in layouts if row["layout_id"] == render["layout_id"]]
        meshes = [(BOX + np.array(p["position_m"]), FACES) for p in layout["placements"]]
        vertices = np.concatenate([points for points, _ in meshes])
        world_to_canonical = view_centric_transform(render["world_to_camera"], vertices)
        points = [transform_points(world_to_canonical, vertices) for vertices, _ in meshes]
        grids = np.stack([voxelize_surface(vertices, FACES) for vertices in points])
        grids = np.concatenate([grids.any(axis=0, keepdims=True), grids])
        packed = np.packbits(grids.reshape(len(grids), -1), axis=1, bitorder="little")
        rng = rng_for(1, "tiny", render["layout_id"], render["view_index"])
        latents = rng.normal(size=(len(meshes) + 1, 8, 16, 16, 16)).astype(np.float16)
        row: Row = {"layout_id": render["layout_id"], "view_index": render["view_index"]}
        row |= {"world_to_canonical": world_to_canonical, "num_instances": len(meshes)}
        row |= {"scene_latent": latents[0], "instance_latents": latents[1:]}
        rows.append(row | {"occupancy": packed})
    return rows


def make_model(root: Path, folder: str, inputs: dict[str, Dataset]) -> Dataset:
    output = output_of(root, "train", folder, pa.schema([]), inputs)
    contents = {"model.json": b"{}", "model.safetensors": b"weights"}
    for name, data in contents.items():
        output.folder.write_bytes(name, data)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    return output.seal({"counts": {}, "files": files, "provenance": PROVENANCE})


def prediction_rows(root: Path, latents: list[Row]) -> list[Row]:
    rows = []
    for latent in latents[::2]:
        row = {name: latent[name] for name in ("layout_id", "view_index", "num_instances")}
        name = f"{row['layout_id']}_{row['view_index']}"
        write_scene_files(root / "predictions" / name, row)
        rows.append(row | {"split": "val", "path": name, "seconds": 1.0})
    return rows


def write_scene_files(folder: Path, meta: Row) -> None:
    folder.mkdir(parents=True)
    for file in ("scene.glb", "occupancy.npz", "preview.png"):
        (folder / file).write_bytes(b"made")
    (folder / "meta.json").write_text(json.dumps(meta))


def image_scene_rows(folder: Path) -> list[Row]:
    """Return rows of two images, two instances each; the last one came out empty."""
    rows = []
    for image_index, name in enumerate(("kitchen", "study")):
        row: Row = {"image_index": image_index, "image": f"{name}.png", "num_instances": 2}
        row |= {"labels": [7, 9], "empty_instances": [1], "warnings": [], "path": name}
        write_scene_files(folder / name, row)
        rows.append(row | {"seconds": 1.0})
    return rows


def comparison_rows() -> list[Row]:
    """Return rows of two predicted scenes, two true instances each; the second lacks a partner."""
    rows = []
    for pair_index in range(2):
        for instance_index, partner_index in ((-1, None), (0, 0), (1, None)):
            row: Row = dict.fromkeys(COMPARISON.schema.names)
            row |= {"pair_index": pair_index, "method": "ours", "scene_id": f"room{pair_index}"}
            row |= {"instance_index": instance_index, "partner_index": partner_index}
            if instance_index == -1:
                row |= {"num_true": 2, "num_predicted": 1, "num_missing": 1, "num_superfluous": 0}
            rows.append(row)
    return rows


def write(
    root: Path,
    name: str,
    folder: str,
    schema: pa.Schema,
    rows: list[Row],
    inputs: dict[str, Dataset],
    *,
    unit: str = "layout_id",
    scenes_per_shard: int = 1000,
    fields: Row | None = None,
    counts: dict[str, int] | None = None,
) -> Dataset:
    """Write and seal one dataset; ``fields`` are further ones of its stage."""
    output = output_of(root, name, folder, schema, inputs, unit, scenes_per_shard)
    identity = replace(output.identity, fields=output.identity.fields | (fields or {}))
    output = replace(output, identity=identity)
    for shard in sorted({row[unit] // scenes_per_shard for row in rows}):
        members = [row for row in rows if row[unit] // scenes_per_shard == shard]
        output.write_shard(shard, members, [])
    return output.seal({"counts": counts or {}, "provenance": PROVENANCE})


def output_of(
    root: Path,
    name: str,
    folder: str,
    schema: pa.Schema,
    inputs: dict[str, Dataset],
    unit: str = "layout_id",
    scenes_per_shard: int = 1000,
) -> Output:
    fingerprints = {key: dataset.fingerprint for key, dataset in inputs.items()}
    fields = {"seed": 0, "encoder": "small"} if name == "encode" else {"seed": 0}
    identity = Identity(name, 1, fields, fingerprints)
    return Output(Folder.at(root / folder), identity, schema, scenes_per_shard, unit)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


PROVENANCE: dict[str, Any] = {
    "finished": "2026-01-02T03:04:05+00:00",
    "versions": {"datagen": "0.1.0"},
    "seconds": 1.5,
    "command": "datagen made by a test",
    "executor": "local",
}
