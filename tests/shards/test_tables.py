"""Columns keep their names, types and order, whatever is declared beside them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.stages.tables import TABLES

SUPPORT = (
    "support: struct<height_m: double, polygon_wkb: binary, anchor_xy_m: list<item: double>, "
    "clearance_m: double, headroom_m: double>"
)
PLACEMENTS = (
    "placements: list<item: struct<asset_id: string, scale: double, yaw_rad: double, "
    "position_m: list<item: double>, radius_m: double, supported_by: int32>>"
)
COLUMNS = {
    "assets": f"""
        object_index: int64
        asset_id: string
        source: string
        source_uid: string
        name: string
        category: string
        license: string
        author: string
        status: string
        reason: string
        extent_m: list<item: double>
        radius_m: double
        num_vertices: int64
        num_faces: int64
        num_source_faces: int64
        num_bodies: int64
        watertight: bool
        has_texture: bool
        textures_missing: list<item: string>
        source_origin_m: list<item: double>
        {SUPPORT}
        geometry_path: string
        prepared_path: string
    """,
    "layouts": f"""
        layout_id: int64
        seed: int64
        gap_scale: double
        gap_m: double
        region_half_m: double
        expansions: int32
        {PLACEMENTS}
    """,
    "renders": """
        layout_id: int64
        view_index: int32
        kept: bool
        drop_reason: string
        world_to_camera: <f8 [4, 4]
        intrinsics: <f8 [3, 3]
        width: int32
        height: int32
        visible_px: list<item: int32>
        amodal_px: list<item: int32>
        rgb: binary
        instance_map: binary
        depth_z: binary
        depth_unit_m: double
        normal: binary
        amodal_masks: list<item: binary>
        fallback: string
    """,
    "latents": """
        layout_id: int64
        view_index: int32
        world_to_canonical: <f8 [4, 4]
        num_instances: int32
        scene_latent: <f2 [8, 16, 16, 16]
        instance_latents: <f2 [-1, 8, 16, 16, 16]
        occupancy: |u1 [-1, 32768]
        slat_counts: list<item: int32>
        slat_coords: |u1 [-1, 3]
        slat_features: <f2 [-1]
        slat_seen: <u2 [-1]
    """,
    "model": "",
    "slat_model": "",
    "predictions": """
        layout_id: int64
        view_index: int32
        split: string
        num_instances: int32
        path: string
        seconds: double
    """,
    "scenes": """
        image_index: int64
        image: string
        labels: list<item: int64>
        num_instances: int32
        empty_instances: list<item: int32>
        warnings: list<item: string>
        path: string
        seconds: double
    """,
    "scores": """
        layout_id: int64
        view_index: int32
        split: string
        method: string
        placement_index: int32
        cd_sq_sum: double
        cd_l2_mean: double
        cd_sq_sum_floor: double
        f_score_0_1: double
        f_score_0_05: double
        f_score_0_01: double
        voxel_iou: double
        box_iou: double
        aligned_cd_sq_sum: double
        aligned_cd_l2_mean: double
        aligned_cd_floor: double
        aligned_f_score_0_1: double
        aligned_f_score_0_05: double
        aligned_f_score_0_01: double
        aligned_f_score_0_1_floor: double
        aligned_f_score_0_05_floor: double
        aligned_f_score_0_01_floor: double
        aligned_box_iou: double
        aligned_voxel_iou: double
        num_predicted: int32
        num_colliding: int32
        num_colliding_at: list<item: int32>
    """,
    "comparison": """
        pair_index: int64
        method: string
        format: string
        scene_id: string
        instance_index: int32
        partner_index: int32
        protocol: string
        align: string
        matched_by: string
        chamfer: string
        points: int32
        num_true: int32
        num_predicted: int32
        num_missing: int32
        num_superfluous: int32
        num_colliding: int32
        num_colliding_at: list<item: int32>
        cd: double
        cd_floor: double
        cd_sq_sum: double
        cd_l2_mean: double
        f_score_0_1: double
        precision_0_1: double
        recall_0_1: double
        f_score_0_05: double
        precision_0_05: double
        recall_0_05: double
        f_score_0_01: double
        precision_0_01: double
        recall_0_01: double
        f_score_0_001: double
        precision_0_001: double
        recall_0_001: double
        f_score_0_1_floor: double
        f_score_0_05_floor: double
        f_score_0_01_floor: double
        f_score_0_001_floor: double
        box_iou: double
        voxel_iou: double
        self_overlap: double
        transform: list<item: double>
        warnings: list<item: string>
    """,
}
"""Name and type of every column, in order; of a tensor dtype and shape."""


def in_words(field: pa.Field) -> str:
    if not field.metadata:
        return f"{field.name}: {field.type}"
    metadata = {key.decode(): value.decode() for key, value in field.metadata.items()}
    assert field.type == pa.binary() and metadata.keys() == {"dtype", "shape"}
    return f"{field.name}: {metadata['dtype']} {metadata['shape']}"


def test_every_table_is_expected():
    assert COLUMNS.keys() == TABLES.keys()


@pytest.mark.parametrize("folder", [*COLUMNS])
def test_columns_keep_their_names_types_and_order(folder):
    schema = TABLES[folder].full_schema
    assert [in_words(field) for field in schema] == [
        line.strip() for line in COLUMNS[folder].strip().splitlines()
    ]
    assert schema.metadata is None


@pytest.mark.parametrize("table", TABLES.values(), ids=[*TABLES])
def test_every_column_is_declared_once_with_one_sentence(table):
    columns = [*table.columns, *table.optional]
    names = [column.name for column in columns]
    assert len(set(names)) == len(names)
    assert set(table.key) <= set(names)
    for column in columns:
        assert column.meaning.endswith("."), column.name
        if column.name.endswith(("_m", "_px")):
            assert column.unit, column.name


def test_optional_columns_follow_the_others():
    latents = TABLES["latents"]
    first = len(latents.schema)
    assert latents.full_schema.names[:first] == latents.schema.names
    assert latents.full_schema.names[first:] == [column.name for column in latents.optional]
    assert all(name.startswith("slat_") for name in latents.full_schema.names[first:])


def test_units_and_sentences_are_not_written_into_shards(tiny):
    for path in tiny.glob("*/*.parquet"):
        schema = pq.read_schema(path)
        assert {*schema.metadata} == {b"datagen.identity", b"datagen.schema_version"}
        for field in schema:
            own = {key for key in field.metadata or {} if key != b"PARQUET:field_id"}
            assert own in (set(), {b"dtype", b"shape"}), field.name
