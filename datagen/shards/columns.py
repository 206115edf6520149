"""What every dataset and column means, in words: for dataset cards and Croissant."""

ROWS = {
    "assets": "an object",
    "layouts": "a scene",
    "renders": "a view, kept or dropped",
    "latents": "an encoded view",
    "predictions": "a sampled view",
}
"""What a row is, by folder."""

VIEW = {
    "layout_id": "The scene; joins all datasets.",
    "view_index": "The view of the scene; joins renders and what follows.",
}

COLUMNS = {
    "assets": {
        "object_index": "Place in the source's list.",
        "asset_id": "sha256 over the source's bytes and the import options; placements name it.",
        "source": "Kind of source.",
        "source_uid": "The object's name in its source.",
        "name": "Name for people.",
        "category": "What kind of object it is, if the source says so.",
        "license": "SPDX id.",
        "author": "Who made it.",
        "status": "ok, or quarantined: never placed.",
        "reason": "Why it is quarantined.",
        "extent_m": "Size of its box along x, y, z; metres.",
        "radius_m": "Largest ground-plane distance of a vertex from the origin's vertical axis.",
        "num_vertices": "Vertices of the geometry.",
        "num_faces": "Triangles of the geometry.",
        "num_source_faces": "Triangles before any reduction.",
        "num_bodies": "Connected parts.",
        "watertight": "Whether the surface is closed.",
        "has_texture": "Whether an image is on it.",
        "textures_missing": "Images that the source names and does not hold.",
        "source_origin_m": "Where the source's origin lies in the canonical frame.",
        "support": "The level on which something can stand, or null: height, polygon (WKB), "
        "anchor, clearance and free height above; metres.",
        "geometry_path": "npz with vertices float32 (V, 3) and faces int32 (F, 3), Z up, metres.",
        "prepared_path": "What Blender loads.",
    },
    "layouts": {
        "layout_id": "The scene; joins all datasets.",
        "seed": "Of the sampler.",
        "gap_scale": "Gap between ground disks over their mean radius.",
        "gap_m": "That gap in metres.",
        "region_half_m": "Half the side of the square that the scene fills.",
        "expansions": "How often the square was enlarged.",
        "placements": "What stands where: asset_id, scale, yaw_rad, position_m, radius_m, and "
        "supported_by (-1: the ground). World point = position + Rz(yaw)·(scale·vertex).",
    },
    "renders": {
        **VIEW,
        "kept": "False: an object is hidden, and there is no image.",
        "drop_reason": "Why it was dropped.",
        "world_to_camera": "World (Z up, metres) to camera (OpenCV axes).",
        "intrinsics": "Pinhole camera, pixels; pixel centres at (0.5, 0.5).",
        "width": "Pixels.",
        "height": "Pixels.",
        "visible_px": "Pixels whose first hit is each placement.",
        "amodal_px": "Pixels that each placement would have alone.",
        "rgb": "PNG, RGBA, straight alpha, sRGB, transparent background.",
        "instance_map": "PNG: 0 is background, i + 1 is placement i.",
        "depth_z": "PNG, 16 bit: planar depth in steps of depth_unit_m; 0 is background.",
        "depth_unit_m": "Metres that a step of depth_z stands for.",
        "normal": "PNG, RGB: the first hit's normal in the camera's frame.",
        "amodal_masks": "A one-bit PNG for each placement: where it would be seen alone.",
        "fallback": "What less it was rendered with after failures: cpu, or fewer samples.",
    },
    "latents": {
        **VIEW,
        "world_to_canonical": "World to the view-centric frame: Z up, within ±0.5, camera on -Y.",
        "num_instances": "Placements of the scene, N.",
        "scene_latent": "Latent of the whole scene.",
        "instance_latents": "Latents of the N instances, each at its place in the scene.",
        "occupancy": "N + 1 grids of 64³ bits, the scene first; bits little-endian, x slowest.",
        "slat_counts": "Occupied voxels of the scene, then of each of the N instances; V in all.",
        "slat_coords": "The V voxels, 0..63 along x, y, z.",
        "slat_features": "Their V·C image features, voxel by voxel, averaged over the views that "
        "show each.",
        "slat_seen": "How many views show each voxel; 0: its features are the mean of all views.",
    },
    "predictions": {
        **VIEW,
        "split": "train or val: whether training saw the scene.",
        "num_instances": "Placements of the scene.",
        "path": "Folder of scene.glb, instance_XX.glb, occupancy.npz, meta.json and previews.",
        "seconds": "Time that sampling took.",
    },
}
"""By folder and column."""

IMAGES = frozenset({"rgb", "instance_map", "depth_z", "normal"})
"""Binary columns that are PNG files."""
