"""The columns of every dataset. A column may be added; these keep their names and meaning.

Tensors are ``binary`` (little-endian, C order) with dtype and shape in the field's metadata
(-1: an axis whose length varies by row).
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

SCHEMA_VERSION = 1
"""Of the files that stages write: raised when a reader of the older one would misread them."""

VERSION_KEY = b"datagen.schema_version"
"""Where every shard says it, in its Parquet metadata."""


def tensor_field(name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> pa.Field:
    """Return a binary field whose metadata says how to read its bytes."""
    spec = {"dtype": np.dtype(dtype).newbyteorder("<").str, "shape": json.dumps(list(shape))}
    return pa.field(name, pa.binary(), metadata=spec)


def tensor_bytes(field: pa.Field, array: NDArray[np.generic]) -> bytes:
    """Return the bytes of an array as the field stores it; ValueError on another shape."""
    _, shape = tensor_spec(field)
    if len(shape) != array.ndim or any(
        want not in (-1, have) for want, have in zip(shape, array.shape, strict=True)
    ):
        raise ValueError(f"column {field.name} holds {shape}, got an array of {array.shape}")
    return np.ascontiguousarray(array, field.metadata[b"dtype"].decode()).tobytes()


def read_tensor(field: pa.Field, data: bytes) -> NDArray[np.generic]:
    """Return the array (read-only) that a tensor field's bytes hold."""
    dtype, shape = tensor_spec(field)
    return np.frombuffer(data, dtype).reshape(shape)


def tensor_spec(field: pa.Field) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return dtype and shape of a tensor field."""
    return np.dtype(field.metadata[b"dtype"].decode()), tuple(json.loads(field.metadata[b"shape"]))


def is_tensor(field: pa.Field) -> bool:
    """Say whether a field holds a tensor."""
    return field.metadata is not None and b"shape" in field.metadata


FLOATS = pa.list_(pa.float64())
"""Of 2 or 3 numbers. Not a fixed-size list: Parquet readers fail on a null one of these."""

SUPPORT = pa.struct(
    [
        ("height_m", pa.float64()),
        ("polygon_wkb", pa.binary()),
        ("anchor_xy_m", FLOATS),
        ("clearance_m", pa.float64()),
        ("headroom_m", pa.float64()),
    ]
)

ASSETS = pa.schema(
    [
        ("object_index", pa.int64()),
        ("asset_id", pa.string()),
        ("source", pa.string()),
        ("source_uid", pa.string()),
        ("name", pa.string()),
        ("category", pa.string()),
        ("license", pa.string()),
        ("author", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("extent_m", FLOATS),
        ("radius_m", pa.float64()),
        ("num_vertices", pa.int64()),
        ("num_faces", pa.int64()),
        ("num_source_faces", pa.int64()),
        ("num_bodies", pa.int64()),
        ("watertight", pa.bool_()),
        ("has_texture", pa.bool_()),
        ("textures_missing", pa.list_(pa.string())),
        ("source_origin_m", FLOATS),
        ("support", SUPPORT),
        ("geometry_path", pa.string()),
        ("prepared_path", pa.string()),
    ]
)

PLACEMENT = pa.struct(
    [
        ("asset_id", pa.string()),
        ("scale", pa.float64()),
        ("yaw_rad", pa.float64()),
        ("position_m", FLOATS),
        ("radius_m", pa.float64()),
        ("supported_by", pa.int32()),
    ]
)

LAYOUTS = pa.schema(
    [
        ("layout_id", pa.int64()),
        ("seed", pa.int64()),
        ("gap_scale", pa.float64()),
        ("gap_m", pa.float64()),
        ("region_half_m", pa.float64()),
        ("expansions", pa.int32()),
        ("placements", pa.list_(PLACEMENT)),
    ]
)

RENDERS = pa.schema(
    [
        ("layout_id", pa.int64()),
        ("view_index", pa.int32()),
        ("kept", pa.bool_()),
        ("drop_reason", pa.string()),
        tensor_field("world_to_camera", np.float64, (4, 4)),
        tensor_field("intrinsics", np.float64, (3, 3)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("visible_px", pa.list_(pa.int32())),
        ("amodal_px", pa.list_(pa.int32())),
        ("rgb", pa.binary()),
        ("instance_map", pa.binary()),
        ("depth_z", pa.binary()),
        ("depth_unit_m", pa.float64()),
        ("normal", pa.binary()),
        ("amodal_masks", pa.list_(pa.binary())),
        ("fallback", pa.string()),  # null, or with what less it was rendered: cpu, samples=2
    ]
)

LATENT_SHAPE = (8, 16, 16, 16)
GRID_BYTES = 64**3 // 8

LATENTS = pa.schema(
    [
        ("layout_id", pa.int64()),
        ("view_index", pa.int32()),
        tensor_field("world_to_canonical", np.float64, (4, 4)),
        ("num_instances", pa.int32()),
        tensor_field("scene_latent", np.float16, LATENT_SHAPE),
        tensor_field("instance_latents", np.float16, (-1, *LATENT_SHAPE)),
        tensor_field("occupancy", np.uint8, (-1, GRID_BYTES)),
    ]
)

SLAT = pa.schema(
    [
        ("slat_counts", pa.list_(pa.int32())),
        tensor_field("slat_coords", np.uint8, (-1, 3)),
        tensor_field("slat_features", np.float16, (-1,)),
        tensor_field("slat_seen", np.uint16, (-1,)),
    ]
)
"""Further columns of ``latents``, where they are asked for."""

PREDICTIONS = pa.schema(
    [
        ("layout_id", pa.int64()),
        ("view_index", pa.int32()),
        ("split", pa.string()),
        ("num_instances", pa.int32()),
        ("path", pa.string()),
        ("seconds", pa.float64()),
    ]
)

SCHEMAS = {
    "assets": ASSETS,
    "layouts": LAYOUTS,
    "renders": RENDERS,
    "latents": LATENTS,
    "predictions": PREDICTIONS,
}
"""By the folder of a workspace, in the order of the pipeline."""
