"""A small complete workspace, written by the writer of the stages."""

import io
import json
from pathlib import Path

import numpy as np
import shapely
import trimesh
from PIL import Image

from datagen.core.cameras import intrinsics_from_fov, look_at, project
from datagen.core.frames import placement_matrix, transform_points
from datagen.evaluation.tables import SCORES
from datagen.shards import Row
from datagen.shards.declared import ASSETS, LATENT_SHAPE, LATENTS, LAYOUTS, PREDICTIONS, RENDERS
from datagen.voxels.drawing import png_bytes
from tests.shards.tiny import asset_row, write

SIZE_PX = 96
NUM_VIEWS = 8


def table_mesh() -> trimesh.Trimesh:
    top = trimesh.creation.box((1.2, 0.8, 0.06))
    top.apply_translation([0, 0, 0.72])
    legs = []
    for x in (-0.55, 0.55):
        for y in (-0.35, 0.35):
            leg = trimesh.creation.box((0.06, 0.06, 0.7))
            leg.apply_translation([x, y, 0.35])
            legs.append(leg)
    return trimesh.util.concatenate([top, *legs])


def ball_mesh() -> trimesh.Trimesh:
    ball = trimesh.creation.icosphere(2, radius=0.3)
    ball.apply_translation([0, 0, 0.3])
    return ball


def lamp_mesh() -> trimesh.Trimesh:
    lamp = trimesh.creation.cone(0.25, 0.9, sections=20)
    return lamp


MESHES = {"table": table_mesh, "ball": ball_mesh, "lamp": lamp_mesh}


def asset_rows(root: Path) -> list[Row]:
    rows = []
    for kind, build in MESHES.items():
        mesh = build()
        rows.append(asset_row(root, kind, mesh.vertices, mesh.faces) | _measures(kind, mesh))
    broken = dict.fromkeys(ASSETS.schema.names)
    broken |= {
        "asset_id": "broken",
        "name": "no & faces",
        "category": "chair",
        "license": "CC0-1.0",
    }
    rows = [
        *rows,
        broken | {"status": "quarantined", "reason": "0 faces", "extent_m": None, "source": "test"},
    ]
    return [row | {"object_index": index} for index, row in enumerate(rows)]


def _measures(kind: str, mesh: trimesh.Trimesh) -> Row:
    support = None
    if kind == "table":
        polygon = shapely.box(-0.6, -0.4, 0.6, 0.4)
        support = {
            "height_m": 0.75,
            "polygon_wkb": shapely.to_wkb(polygon),
            "anchor_xy_m": [0.0, 0.0],
            "clearance_m": 0.4,
            "headroom_m": float("inf"),
        }
    return {
        "source": "test",
        "name": f"plain {kind}",
        "author": "nobody",
        "extent_m": mesh.extents.tolist(),
        "radius_m": float(np.linalg.norm(mesh.vertices[:, :2], axis=1).max()),
        "watertight": True,
        "has_texture": False,
        "support": support,
    }


def layout_row(layout_id: int) -> Row:
    def place(kind: str, x: float, y: float, z: float, scale: float, on: int = -1) -> Row:
        radius = float(np.linalg.norm(MESHES[kind]().vertices[:, :2], axis=1).max()) * scale
        return {
            "asset_id": kind,
            "scale": scale,
            "yaw_rad": 0.5 + layout_id,
            "position_m": [x, y, z],
            "radius_m": radius,
            "supported_by": on,
        }

    placements = [place("table", 0.0, 0.0, 0.0, 1.0), place("lamp", 1.3, 0.4, 0.0, 1.2)]
    placements.append(place("ball", -0.2, -1.2, 0.0, 1.1))
    placements.append(place("ball", 0.0, 0.0, 0.75, 0.5, on=0))
    return {
        "layout_id": layout_id,
        "seed": 0,
        "gap_scale": 0.4 + 0.1 * layout_id,
        "gap_m": 0.15,
        "region_half_m": 1.6,
        "expansions": layout_id,
        "placements": placements,
    }


def placed_meshes(layout: Row) -> list[trimesh.Trimesh]:
    meshes = []
    for p in layout["placements"]:
        mesh = MESHES[p["asset_id"]]()
        mesh.apply_transform(placement_matrix(np.array(p["position_m"]), p["yaw_rad"], p["scale"]))
        meshes.append(mesh)
    return meshes


def render_rows(layout: Row) -> list[Row]:
    meshes = placed_meshes(layout)
    intrinsics = intrinsics_from_fov(0.7, SIZE_PX, SIZE_PX)
    rows = []
    for index in range(NUM_VIEWS):
        angle = 2 * np.pi * index / NUM_VIEWS
        eye = np.array([5.5 * np.cos(angle), 5.5 * np.sin(angle), 1.0 + index * 0.4])
        world_to_camera = look_at(eye, np.array([0.3, -0.2, 0.4]))
        kept = index % 4 != 3
        labels = splat(meshes, world_to_camera, intrinsics)
        rows.append(
            dict.fromkeys(RENDERS.schema.names)
            | {
                "layout_id": layout["layout_id"],
                "view_index": index,
                "kept": kept,
                "drop_reason": None if kept else "occluded",
                "world_to_camera": world_to_camera,
                "intrinsics": intrinsics,
                "width": SIZE_PX,
                "height": SIZE_PX,
                "visible_px": [900, 200, 300, 150 if kept else 1],
                "amodal_px": [1000, 220, 300, 160],
                "rgb": png_bytes(fake_render(labels)) if kept else None,
                "instance_map": map_bytes(labels) if kept else None,
            }
        )
    return rows


def splat(
    meshes: list[trimesh.Trimesh], world_to_camera: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """Return an instance map (H, W) of dense surface points, the nearest in each pixel."""
    labels = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    depth = np.full(labels.shape, np.inf)
    for index, mesh in enumerate(meshes):
        points, _ = trimesh.sample.sample_surface(mesh, 8000, seed=0)
        for u, v, z in project(points, world_to_camera, intrinsics):
            if 0 <= u < SIZE_PX and 0 <= v < SIZE_PX and z < depth[int(v), int(u)]:
                depth[int(v), int(u)] = z
                labels[int(v), int(u)] = index + 1
    return labels


def fake_render(labels: np.ndarray) -> np.ndarray:
    grey = np.linspace(90, 210, SIZE_PX)[:, None] * np.ones(SIZE_PX)
    return np.dstack([grey, grey, grey - 20 * (labels % 4), 255 * (labels > 0)]).astype(np.uint8)


def map_bytes(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def grids_of(layout: Row) -> np.ndarray:
    """Return voxels (N, 64, 64, 64) bool of dense surface points; the scene fills the cube."""
    meshes = placed_meshes(layout)
    corners = np.concatenate([mesh.bounds for mesh in meshes])
    center, side = (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0).max()
    grids = np.zeros((len(meshes), 64, 64, 64), bool)
    for grid, mesh in zip(grids, meshes, strict=True):
        points, _ = trimesh.sample.sample_surface(mesh, 20000, seed=0)
        to_canonical = np.eye(4) / (side * 1.0001)
        to_canonical[:3, 3] = -center / (side * 1.0001)
        cells = np.floor((transform_points(to_canonical, points) + 0.5) * 64).astype(int)
        grid[tuple(cells.T)] = True
    return grids


def latent_rows(layout: Row, views: list[Row]) -> list[Row]:
    grids = grids_of(layout)
    packed = np.stack(
        [
            np.packbits(grid.ravel(order="C"), bitorder="little")
            for grid in (grids.any(axis=0), *grids)
        ]
    )
    return [
        {
            "layout_id": layout["layout_id"],
            "view_index": view["view_index"],
            "world_to_canonical": np.eye(4),
            "num_instances": len(grids),
            "scene_latent": np.zeros(LATENT_SHAPE, np.float16),
            "instance_latents": np.zeros((len(grids), *LATENT_SHAPE), np.float16),
            "occupancy": packed,
        }
        for view in views
        if view["kept"]
    ]


def score_rows() -> list[Row]:
    rows = []
    for method, iou in (("constant", 0.1), ("model", 0.55), ("untrained", 0.01)):
        for index in (-1, 0, 1):
            missed = method == "untrained" and index == 1
            rows.append(
                dict.fromkeys(SCORES.schema.names)
                | {
                    "layout_id": 1,
                    "view_index": 0,
                    "split": "train",
                    "method": method,
                    "placement_index": index,
                    "cd_sq_sum": float("nan") if missed else 0.125 - iou / 10,
                    "cd_l2_mean": float("nan") if missed else 0.2,
                    "cd_sq_sum_floor": 0.0004,
                    "f_score_0_1": 0.0 if missed else 0.4 + iou / 2,
                    "f_score_0_05": 0.0 if missed else 0.3,
                    "f_score_0_01": 0.0,
                    "voxel_iou": 0.0 if missed else iou,
                    "box_iou": 0.0 if missed else 0.5,
                    "aligned_f_score_0_1": 0.0 if missed else 0.6 + iou / 2,
                    "aligned_cd_sq_sum": float("nan") if missed else 0.1 - iou / 10,
                    "num_predicted": 2,
                    "num_colliding": 2,
                    "num_colliding_at": [2, 2, 2, 2, 0, 0, 0] if index == -1 else None,
                }
            )
    return rows


def write_workspace(root: Path) -> Path:
    """Write a workspace with every stage finished; return its root."""
    layouts = [layout_row(0), layout_row(1)]
    views = [view for layout in layouts for view in render_rows(layout)]
    by_layout = {i: [v for v in views if v["layout_id"] == i] for i in (0, 1)}
    latents = [row for i in (0, 1) for row in latent_rows(layouts[i], by_layout[i])]
    write(root, "assets", "assets", ASSETS.schema, asset_rows(root), {}, unit="object_index")
    write(root, "layouts", "layouts", LAYOUTS.schema, layouts, {})
    counts = {"kept": 12, "dropped_occluded": 4}
    write(root, "render", "renders", RENDERS.schema, views, {}, counts=counts)
    write(root, "encode", "latents", LATENTS.schema, latents, {})
    write_predictions(root, grids_of(layouts[1]))
    write(root, "evaluate", "scores", SCORES.schema, score_rows(), {})
    (root / "model").mkdir()
    records = [{"step": s, "loss": float(np.exp(-s / 40)) + 0.02} for s in range(1, 200, 2)]
    records[50]["val_loss"] = 0.3
    records[-1]["val_loss"] = 0.1
    lines = "\n".join(json.dumps(record) for record in records)
    (root / "model" / "log.jsonl").write_text(lines + "\n")
    return root


def write_predictions(root: Path, true: np.ndarray) -> None:
    sampled = np.roll(true, 2, axis=1)
    sampled[2] = False
    folder = root / "predictions" / "1_0"
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "occupancy.npz", scene=sampled.any(axis=0), instances=sampled)
    row = {
        "layout_id": 1,
        "view_index": 0,
        "split": "train",
        "num_instances": len(true),
        "path": "1_0",
        "seconds": 2.25,
    }
    write(root, "infer", "predictions", PREDICTIONS.schema, [row], {})
