"""Measurements of a prepared asset, and the faults that set one aside."""

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
"""Why an asset can be quarantined. ``crashed``: Blender crashed or timed out on it. ``license``
and ``duplicate`` (the bytes of an earlier object) are set aside without being opened."""

FLAT_SHARE = 1e-3
"""An object thinner than this share of its longest side disappears when seen from its edge."""

MEASURED = (
    "extent_m",
    "radius_m",
    "num_vertices",
    "num_faces",
    "num_bodies",
    "watertight",
    "support",
)
"""Columns measured on the geometry."""

REPORTED = ("num_source_faces", "has_texture", "textures_missing", "source_origin_m")
"""Columns that Blender reports."""


def measure(path: Path) -> Row:
    """Return the columns of shards.declared.ASSETS that are measured on the geometry.

    Args:
        path: an .npz with ``vertices`` (V, 3) float32, metres, canonical, and ``faces`` (F, 3)
            int32.

    Returns:
        The columns and a ``reason`` of None; for an unusable asset only its ``reason``.
    """
    with np.load(path) as geometry:
        vertices, faces = geometry["vertices"], geometry["faces"]
    reason = find_fault(vertices, faces)
    if reason is not None:
        return {"reason": reason}
    # process=True welds equal vertices, which closes split seams.
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
    """Return why the asset must be set aside, one of REASONS; None if it need not.

    Args:
        vertices: (V, 3), any unit.
        faces: (F, 3).
    """
    if len(faces) == 0:
        return "no_triangles"
    if not np.isfinite(vertices).all():
        return "not_finite"
    points = vertices.astype(np.float64)
    # A rotated sheet is as flat as one along the axes, so its principal axes are checked too.
    _, axes = np.linalg.eigh(np.cov((points - points.mean(axis=0)).T))
    extent, own_extent = np.ptp(points, axis=0), np.ptp(points @ axes, axis=0)
    if min(extent.min(), own_extent.min()) <= FLAT_SHARE * extent.max():
        return "flat"
    return None


def count_bodies(num_vertices: int, faces: NDArray[np.int32]) -> int:
    """Return the number of connected pieces. Faces are connected if they share a vertex.

    Args:
        num_vertices: V.
        faces: (F, 3), indices below V.
    """
    start, end = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    links = coo_array((np.ones(len(start), np.int8), (start, end)), (num_vertices, num_vertices))
    return int(connected_components(links, directed=False, return_labels=False))


def support_struct(support: Support | None) -> Row | None:
    """Return the value of the ``support`` column."""
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
        source: name of the source.
        obj: the object in the source.
        report: Blender's report; a quarantined object needs only its ``reason``.
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
    """Return the path of an asset's triangles, relative to the assets folder."""
    return f"geometry/{asset_id}.npz"


def prepared_path(asset_id: str) -> str:
    """Return the path of the file that the renderer loads, relative to the assets folder."""
    return f"prepared/{asset_id}.blend"
