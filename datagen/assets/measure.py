"""What is measured on an asset once, and which assets are set aside."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datagen.assets.objects import SourceObject
from datagen.layouts.support import Support, find_support
from datagen.shards import Row

REASONS = (
    "license",
    "duplicate",
    "fetch_failed",
    "crashed",
    "import_failed",
    "no_triangles",
    "not_finite",
    "flat",
)
"""Why an asset can be quarantined; ``crashed`` says that Blender died or gave up on it.
``license`` and ``duplicate`` (the bytes of an object listed before) are set aside unopened."""

FLAT_SHARE = 1e-3
"""An object thinner than this share of its longest side vanishes when seen from its edge."""

MEASURED = (
    "extent_m",
    "radius_m",
    "num_vertices",
    "num_faces",
    "num_bodies",
    "watertight",
    "support",
)
"""Columns taken from the geometry."""

REPORTED = ("num_source_faces", "has_texture", "textures_missing", "source_origin_m")
"""Columns that Blender reports."""


def measure(path: Path) -> Row:
    """Return the measured columns of one geometry file.

    Args:
        path: an .npz with ``vertices`` float32 (V, 3), metres, canonical, and ``faces`` int32
            (F, 3).

    Returns:
        The columns of shards.declared.ASSETS that the geometry decides, or ``reason`` alone.
    """
    with np.load(path) as geometry:
        vertices, faces = geometry["vertices"], geometry["faces"]
    reason = find_fault(vertices, faces)
    if reason is not None:
        return {"reason": reason}
    # Welding on load is what makes a split seam closed again.
    is_closed = trimesh.Trimesh(vertices, faces, process=True).is_watertight
    points = vertices.astype(np.float64)
    return {
        "reason": None,
        "extent_m": np.ptp(points, axis=0).tolist(),
        "radius_m": float(np.hypot(points[:, 0], points[:, 1]).max()),
        "num_vertices": len(vertices),
        "num_faces": len(faces),
        "num_bodies": count_bodies(len(vertices), faces),
        "watertight": bool(is_closed),
        "support": support_struct(find_support(vertices, faces)),
    }


def find_fault(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> str | None:
    """Return the reason to set the asset aside, one of REASONS, or None for a sound one."""
    if len(faces) == 0:
        return "no_triangles"
    if not np.isfinite(vertices).all():
        return "not_finite"
    points = vertices.astype(np.float64)
    # A sheet that stands askew is as flat as one along the axes.
    _, axes = np.linalg.eigh(np.cov((points - points.mean(axis=0)).T))
    extent, own_extent = np.ptp(points, axis=0), np.ptp(points @ axes, axis=0)
    if min(extent.min(), own_extent.min()) <= FLAT_SHARE * extent.max():
        return "flat"
    return None


def count_bodies(num_vertices: int, faces: NDArray[np.int32]) -> int:
    """Return how many connected pieces (F, 3) faces form; faces connect at shared vertices."""
    start, end = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    links = coo_array((np.ones(len(start), np.int8), (start, end)), (num_vertices, num_vertices))
    return int(connected_components(links, directed=False, return_labels=False))


def support_struct(support: Support | None) -> Row | None:
    """Return the ``support`` column of a support."""
    if support is None:
        return None
    return {
        "height_m": support.height_m,
        "polygon_wkb": support.polygon.wkb,
        "anchor_xy_m": list(support.anchor_xy_m),
        "clearance_m": support.clearance_m,
        "headroom_m": support.headroom_m,
    }


def asset_row(source: str, obj: SourceObject, report: Row, measures: Row) -> Row:
    """Return one row of shards.declared.ASSETS.

    Args:
        source: the source's name.
        obj: what the source says of the object.
        report: Blender's; of a quarantined one ``reason`` is enough.
        measures: the columns of measure(), or ``{"reason": ...}``.
    """
    reason = report["reason"] or measures["reason"]
    known = asdict(obj)
    row: Row = {
        "asset_id": obj.asset_id,
        "source": source,
        "source_uid": obj.uid,
        **{key: known[key] for key in ("name", "category", "license", "author")},
        "status": "ok" if reason is None else "quarantined",
        "reason": reason,
    }
    is_ok = reason is None
    for key in MEASURED:
        row[key] = measures[key] if is_ok else None
    for key in REPORTED:
        row[key] = report[key] if is_ok else None
    row["geometry_path"] = geometry_path(obj.asset_id) if is_ok else None
    row["prepared_path"] = prepared_path(obj.asset_id) if is_ok else None
    return row


def geometry_path(asset_id: str) -> str:
    """Return where an asset's triangles lie, relative to the assets folder."""
    return f"geometry/{asset_id}.npz"


def prepared_path(asset_id: str) -> str:
    """Return where what the renderer loads lies, relative to the assets folder."""
    return f"prepared/{asset_id}.blend"
