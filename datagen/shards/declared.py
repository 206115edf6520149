"""The columns of every dataset up to the predictions; those of scores are in ``evaluation``.

A column may be added; these keep their names, types and meaning.
"""

import numpy as np
import pyarrow as pa

from datagen.shards.tables import Table, by_folder, column, image_column, tensor_column

FLOATS = pa.list_(pa.float64())
"""Of 2 or 3 numbers. Not a fixed-size list: Parquet readers fail on a null one of these."""

INTS = pa.list_(pa.int32())
STRINGS = pa.list_(pa.string())

LATENT_SHAPE = (8, 16, 16, 16)
GRID_BYTES = 64**3 // 8

LAYOUT_ID = column("layout_id", pa.int64(), "The scene; joins all datasets.")
VIEW_INDEX = column(
    "view_index", pa.int32(), "The view of the scene; joins renders and the datasets after it."
)
VIEW = (LAYOUT_ID, VIEW_INDEX)
VIEW_KEY = ("layout_id", "view_index")

SUPPORT = pa.struct(
    [
        ("height_m", pa.float64()),
        ("polygon_wkb", pa.binary()),
        ("anchor_xy_m", FLOATS),
        ("clearance_m", pa.float64()),
        ("headroom_m", pa.float64()),
    ]
)

ASSETS = Table(
    folder="assets",
    verb="assets",
    row="an object",
    key=("asset_id",),
    columns=(
        column("object_index", pa.int64(), "Index of the object within its source."),
        column(
            "asset_id",
            pa.string(),
            "sha256 of the source's bytes and the import options; placements refer to it.",
        ),
        column("source", pa.string(), "Kind of source."),
        column("source_uid", pa.string(), "The object's name in its source."),
        column("name", pa.string(), "Name for people."),
        column("category", pa.string(), "Kind of object, if the source gives one."),
        column("license", pa.string(), "SPDX id of the license."),
        column("author", pa.string(), "Who made the object."),
        column("status", pa.string(), "ok, or quarantined: never placed in a scene."),
        column("reason", pa.string(), "Why the object is quarantined; null if it is ok."),
        column("extent_m", FLOATS, "Size of its bounding box along x, y, z.", unit="m"),
        column(
            "radius_m",
            pa.float64(),
            "Largest horizontal distance of a vertex from the vertical axis through the origin.",
            unit="m",
        ),
        column("num_vertices", pa.int64(), "Number of vertices."),
        column("num_faces", pa.int64(), "Number of triangles."),
        column("num_source_faces", pa.int64(), "Number of triangles before any reduction."),
        column("num_bodies", pa.int64(), "Number of connected parts."),
        column("watertight", pa.bool_(), "Whether the surface is closed."),
        column("has_texture", pa.bool_(), "Whether the object has an image texture."),
        column("textures_missing", STRINGS, "Images that the source names and does not contain."),
        column(
            "source_origin_m", FLOATS, "Origin of the source in the asset's own frame.", unit="m"
        ),
        column(
            "support",
            SUPPORT,
            "Largest usable support surface, null if there is none: height, polygon (WKB), anchor, "
            "clearance and free height above it.",
            unit="m",
        ),
        column(
            "geometry_path",
            pa.string(),
            "npz file with vertices float32 (V, 3), metres, Z up, and faces int32 (F, 3).",
        ),
        column("prepared_path", pa.string(), "File that Blender loads."),
    ),
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

LAYOUTS = Table(
    folder="layouts",
    verb="layouts",
    row="a scene",
    key=("layout_id",),
    columns=(
        LAYOUT_ID,
        column("seed", pa.int64(), "Seed of the sampler."),
        column("gap_scale", pa.float64(), "gap_m over the mean radius of the ground disks."),
        column("gap_m", pa.float64(), "Gap between ground disks.", unit="m"),
        column(
            "region_half_m",
            pa.float64(),
            "Half the side of the square that holds the scene.",
            unit="m",
        ),
        column("expansions", pa.int32(), "How often the square was enlarged."),
        column(
            "placements",
            pa.list_(PLACEMENT),
            "The objects: asset_id, scale, yaw_rad, position_m, radius_m, and supported_by (index "
            "of the placement below, -1: the ground). World point = position + "
            "Rz(yaw)·(scale·vertex).",
            unit="m, rad",
        ),
    ),
)

RENDERS = Table(
    folder="renders",
    verb="render",
    row="a view, kept or dropped",
    key=VIEW_KEY,
    columns=(
        *VIEW,
        column("kept", pa.bool_(), "False: the view was dropped, and has no image."),
        column("drop_reason", pa.string(), "Why the view was dropped; null if it was kept."),
        tensor_column(
            "world_to_camera",
            np.float64,
            (4, 4),
            "World (Z up) to camera (OpenCV axes).",
            unit="m",
        ),
        tensor_column(
            "intrinsics",
            np.float64,
            (3, 3),
            "Pinhole camera; pixel centres at (0.5, 0.5).",
            unit="pixels",
        ),
        column("width", pa.int32(), "Width of the images.", unit="pixels"),
        column("height", pa.int32(), "Height of the images.", unit="pixels"),
        column("visible_px", INTS, "Pixels of each placement that are seen.", unit="pixels"),
        column("amodal_px", INTS, "Pixels that each placement would have alone.", unit="pixels"),
        image_column("rgb", "PNG, RGBA, straight alpha, sRGB, transparent background."),
        image_column("instance_map", "PNG: 0 is background, i + 1 is placement i."),
        image_column(
            "depth_z", "PNG, 16 bit: planar depth; 0 is background.", unit="depth_unit_m metres"
        ),
        column("depth_unit_m", pa.float64(), "Length of one step of depth_z.", unit="m"),
        image_column("normal", "PNG, RGB: normal of the first hit, camera frame."),
        column(
            "amodal_masks",
            pa.list_(pa.binary()),
            "For each placement a PNG of one bit a pixel: where it would be seen alone.",
        ),
        column(
            "fallback",
            pa.string(),
            "Reduced setting that the view was rendered with after failures (cpu, samples=2); else "
            "null.",
        ),
    ),
)

SLAT = (
    column(
        "slat_counts",
        INTS,
        "Occupied voxels of the scene, then of each of the N instances; V in all.",
        unit="voxels",
    ),
    tensor_column(
        "slat_coords", np.uint8, (-1, 3), "The V voxels, 0 to 63 along x, y, z.", unit="voxels"
    ),
    tensor_column(
        "slat_features",
        np.float16,
        (-1,),
        "Their V·C image features, voxel by voxel, averaged over the views that show each.",
    ),
    tensor_column(
        "slat_seen",
        np.uint16,
        (-1,),
        "Number of views that show each voxel; 0: its features are the mean of all views.",
    ),
)
"""The columns of ``encode --store slat_features``."""

LATENTS = Table(
    folder="latents",
    verb="encode",
    row="an encoded view",
    key=VIEW_KEY,
    columns=(
        *VIEW,
        tensor_column(
            "world_to_canonical",
            np.float64,
            (4, 4),
            "World to the view-centric frame: Z up, within ±0.5, camera on -Y.",
        ),
        column("num_instances", pa.int32(), "Placements of the scene, N."),
        tensor_column("scene_latent", np.float16, LATENT_SHAPE, "Latent of the whole scene."),
        tensor_column(
            "instance_latents",
            np.float16,
            (-1, *LATENT_SHAPE),
            "Latents of the N instances, each at its place in the scene.",
        ),
        tensor_column(
            "occupancy",
            np.uint8,
            (-1, GRID_BYTES),
            "N + 1 grids of 64³ bits, the scene first; bits little-endian, x slowest.",
        ),
    ),
    optional=SLAT,
)

MODEL = Table(folder="model", verb="train", row="", columns=())
SLAT_MODEL = Table(folder="slat_model", verb="train --model slat-small", row="", columns=())

SECONDS = column("seconds", pa.float64(), "Time that sampling took.", unit="s")
SCENE_FILES = "Folder of scene.glb, instance_XX.glb, occupancy.npz, meta.json and previews."
SPLIT = column("split", pa.string(), "train or val: whether training saw the scene.")

PREDICTIONS = Table(
    folder="predictions",
    verb="infer",
    row="a sampled view",
    key=VIEW_KEY,
    columns=(
        *VIEW,
        SPLIT,
        column("num_instances", pa.int32(), "Placements of the scene."),
        column("path", pa.string(), SCENE_FILES),
        SECONDS,
    ),
)

SCENES = Table(
    folder="scenes",
    verb="infer --image IMAGE --masks MASKS",
    row="an image file from which a scene was sampled",
    key=("image_index",),
    nested=True,
    columns=(
        column("image_index", pa.int64(), "Index of the image, sorted by name."),
        column("image", pa.string(), "Name of the image file."),
        column("labels", pa.list_(pa.int64()), "Label of each instance in the masks."),
        column("num_instances", pa.int32(), "Instances in the masks."),
        column("empty_instances", INTS, "Instances that came out without a surface."),
        column("warnings", STRINGS, "What is unusual about the image and its masks."),
        column("path", pa.string(), SCENE_FILES),
        SECONDS,
    ),
)

INPUTS = by_folder((ASSETS, LAYOUTS, RENDERS, LATENTS, MODEL, SLAT_MODEL, PREDICTIONS))
"""The tables that stages read, by folder."""
