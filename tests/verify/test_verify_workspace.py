"""Every kind of damage is found, and named by file and row; a sound workspace is called sound."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.cli import main
from datagen.shards import Folder
from datagen.shards.declared import GRID_BYTES, LATENTS
from datagen.stages.tables import TABLES
from datagen.verify.rows import ROW_CHECKS
from datagen.verify.workspace import verify_path, verify_workspace
from tests.shards.tiny import write

KEYS = [LATENTS.schema.field(name) for name in ("layout_id", "view_index", "num_instances")]
OCCUPANCY = LATENTS.schema.field("occupancy")


@pytest.fixture
def workspace(tiny, tmp_path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "workspace"))


def findings(root: Path, **options) -> list[str]:
    return [str(finding) for finding in verify_workspace(Folder.at(root), **options).findings]


def edit_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def identity_json(manifest: dict) -> str:
    identity = {k: manifest[k] for k in ("name", "revision", "fields", "inputs", "schema_version")}
    return json.dumps(identity, sort_keys=True, separators=(",", ":"))


def edit_identity(folder: Path, change: Callable[[dict], object]) -> None:
    """Change a manifest, and its fingerprint to fit."""

    def changed(manifest: dict) -> None:
        change(manifest)
        fingerprint = hashlib.sha256(identity_json(manifest).encode()).hexdigest()
        manifest["fingerprint"] = fingerprint

    edit_manifest(folder, changed)


def sign_rows_with_identity(folder: Path) -> None:
    """Write the manifest's identity into every shard, and sign them anew."""
    identity = identity_json(json.loads((folder / "manifest.json").read_text()))
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        metadata = {**table.schema.metadata, b"datagen.identity": identity.encode()}
        pq.write_table(table.replace_schema_metadata(metadata), path)
    edit_manifest(folder, lambda manifest: sign(folder, manifest))


def edit_rows(folder: Path, index: int, change: Callable[[list[dict]], object]) -> None:
    """Change rows of a shard and sign them anew, so that only their meaning is wrong."""
    path = folder / f"shard-{index:05d}.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    edit_manifest(folder, lambda manifest: sign(folder, manifest))


def sign(folder: Path, manifest: dict) -> None:
    """Write the shards' true sha256 and rows into a manifest."""
    for record in manifest["shards"]:
        path = folder / record["path"]
        record["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        record["rows"] = pq.read_metadata(path).num_rows
    manifest["rows"] = sum(record["rows"] for record in manifest["shards"])


def flip_byte(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_sound_workspace_has_no_finding_and_exit_code_0(tiny, capsys):
    assert findings(tiny, deep=True) == []
    assert main(["verify", str(tiny), "--deep"]) == 0
    assert capsys.readouterr().out.endswith("verify: sound in 9 datasets\n")


def test_damage_gives_exit_code_1_and_no_dataset_gives_2(workspace, capsys):
    flip_byte(workspace / "renders/shard-00001.parquet", 100)
    assert main(["verify", "--root", str(workspace)]) == 1
    assert "renders/shard-00001.parquet: was changed" in capsys.readouterr().out
    assert main(["verify", str(workspace / "no-such")]) == 2


@pytest.mark.parametrize("offset", [4, 200, 2000, -200, -6])
def test_flipped_byte_anywhere_is_found(workspace, offset):
    flip_byte(workspace / "latents/shard-00001.parquet", offset)
    found = findings(workspace)
    assert found[0].startswith("latents/shard-00001.parquet: was changed: its sha256 is")
    assert all(line.startswith("latents/shard-00001.parquet: ") for line in found)


@pytest.mark.parametrize("folder", ["model", "slat_model"])
def test_flipped_byte_in_a_model_is_found(workspace, folder):
    flip_byte(workspace / folder / "model.safetensors", 2)
    [found] = findings(workspace)
    assert found.startswith(f"{folder}/model.safetensors: was changed")


@pytest.mark.parametrize("folder", ["model", "slat_model"])
def test_missing_file_of_a_model_is_found(workspace, folder):
    (workspace / folder / "model.json").unlink()
    assert findings(workspace) == [f"{folder}/model.json: missing although the manifest lists it"]


@pytest.mark.parametrize("folder", ["scenes/rooms", "comparison"])
def test_flipped_byte_in_scenes_of_images_or_a_comparison_is_found(workspace, folder):
    flip_byte(workspace / folder / "shard-00000.parquet", 100)
    assert findings(workspace)[0].startswith(f"{folder}/shard-00000.parquet: was changed")


def test_model_that_is_named_by_a_field_is_not_the_workspaces(workspace):
    """``infer --model`` reads another model than the one beside its predictions."""
    edit_identity(workspace / "predictions", lambda m: m["inputs"].update(model="0" * 64))
    assert "made from other model" in "".join(findings(workspace, names=["predictions"]))
    edit_identity(workspace / "predictions", lambda m: m["fields"].update(model="small"))
    sign_rows_with_identity(workspace / "predictions")
    assert findings(workspace, names=["predictions"]) == []


def test_missing_shard_is_named_once_and_references_to_it_are_noted(workspace):
    (workspace / "renders/shard-00001.parquet").unlink()
    result = verify_workspace(Folder.at(workspace))
    [found] = result.findings
    assert str(found).startswith("renders/shard-00001.parquet: missing although the manifest")
    assert [note.split(" were")[0] for note in result.notes] == ["references to renders"]


def test_foreign_shard_is_found(workspace):
    source = workspace / "renders/shard-00001.parquet"
    shutil.copy(source, workspace / "renders/shard-00002.parquet")
    [found] = findings(workspace)
    assert found.startswith("renders/shard-00002.parquet: the manifest does not list it")


def test_shard_of_another_dataset_is_found(workspace):
    def foreign(rows: list[dict]) -> None:
        pass

    path = workspace / "renders/shard-00001.parquet"
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"datagen.identity": b"{}"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    edit_rows(workspace / "renders", 1, foreign)
    [found] = findings(workspace)
    assert found.startswith("renders/shard-00001.parquet: belongs to another dataset")


def test_wrong_counts_are_found(workspace):
    edit_manifest(workspace / "layouts", lambda manifest: manifest.update(rows=7))
    edit_manifest(workspace / "renders", lambda m: m["shards"][0].update(rows=5))
    assert findings(workspace) == [
        "layouts/manifest.json: says 7 rows, its shards have 4",
        "renders/manifest.json: says 12 rows, its shards have 11",
        "renders/shard-00000.parquet: has 6 rows, the manifest says 5",
    ]


def test_edited_fields_are_found(workspace):
    edit_manifest(workspace / "predictions", lambda m: m["fields"].update(seed=1))
    [found] = findings(workspace)
    assert found.startswith("predictions/manifest.json: the fingerprint is not that of")


def test_dataset_of_other_inputs_is_found(workspace):
    edit_identity(workspace / "model", lambda manifest: manifest["inputs"].update(renders="0" * 64))
    found = findings(workspace, names=["model"])
    assert len(found) == 1 and "made from other renders (000000000000…)" in found[0]


def test_leftovers_of_a_killed_run_are_found(workspace):
    (workspace / "renders/.parts/00000").mkdir(parents=True)
    (workspace / "renders/.parts/00000/000000001.parquet").write_bytes(b"")
    (workspace / "latents/.shard-00000.parquet.x1y2").write_bytes(b"")
    assert [line.split(": ")[:2] for line in findings(workspace)] == [
        ["renders/.parts", "part files left over beside a finished dataset; delete the folder"],
        ["latents/.shard-00000.parquet.x1y2", "left over by a run that was killed; delete it"],
    ]


def test_unfinished_dataset_is_found(workspace):
    (workspace / "predictions/manifest.json").unlink()
    assert findings(workspace) == [
        "predictions/manifest.json: missing: the dataset is unfinished; run its stage again, it "
        "resumes"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "is not JSON"), ("[]", "is not a JSON object"), ("{}", "lacks name, revision")],
)
@pytest.mark.parametrize("folder", ["layouts", "renders", "predictions"])
def test_bad_manifest_is_found_and_the_others_are_still_checked(workspace, folder, text, problem):
    (workspace / folder / "manifest.json").write_text(text)
    [found] = findings(workspace)
    assert found.startswith(f"{folder}/manifest.json: {problem}")


def cut_last_float(rows: list[dict]) -> None:
    rows[1]["scene_latent"] = rows[1]["scene_latent"][:-2]


def cut_an_instance(rows: list[dict]) -> None:
    rows[2]["instance_latents"] = rows[2]["instance_latents"][: 8 * 16**3 * 2]


def put_nan(rows: list[dict]) -> None:
    rows[0]["scene_latent"] = b"\x00\x7e" + rows[0]["scene_latent"][2:]


def drop_layout_3(rows: list[dict]) -> None:
    rows[:] = [row for row in rows if row["layout_id"] != 3]


@pytest.mark.parametrize(
    ("folder", "change", "expected"),
    [
        (
            "latents",
            cut_last_float,
            "shard-00001.parquet, row 1: tensor scene_latent has 65534 bytes, expected 65536",
        ),
        (
            "latents",
            cut_an_instance,
            "shard-00001.parquet, row 2: instance_latents has 1 entries, expected 2",
        ),
        (
            "latents",
            lambda rows: rows.pop(),
            "shard-00001.parquet: layout 3, view 1 was kept but has no row",
        ),
        (
            "latents",
            lambda rows: rows[3].update(view_index=2),
            "shard-00001.parquet, row 3: layout 3, view 2: renders has no such kept view",
        ),
        (
            "renders",
            lambda rows: rows[4].update(layout_id=2),
            "shard-00001.parquet, row 4: layout 2, view 1 is there twice or out of order",
        ),
        (
            "renders",
            lambda rows: rows.insert(1, rows[0]),
            "shard-00001.parquet, row 1: layout 2, view 0 is there twice or out of order",
        ),
        (
            "latents",
            lambda rows: rows.append(rows[-1]),
            "shard-00001.parquet, row 4: layout 3, view 1 is there twice or out of order",
        ),
        (
            "renders",
            lambda rows: rows[5].update(layout_id=9),
            "shard-00001.parquet, row 5: layout 9, view 2 belongs in shard-00004.parquet",
        ),
        (
            "renders",
            lambda rows: rows[5].update(layout_id=9),
            "shard-00001.parquet, row 5: layout 9, view 2: layouts has no such layout",
        ),
        (
            "renders",
            lambda rows: rows[0].update(visible_px=[1]),
            "shard-00001.parquet, row 0: layout 2, view 0: visible_px has 1 numbers, 2 placements",
        ),
        (
            "renders",
            drop_layout_3,
            "shard-00001.parquet: layout 3 has no row and is not among the failed",
        ),
        (
            "predictions",
            lambda rows: rows[2].update(view_index=2),
            "shard-00000.parquet, row 2: layout 2, view 2: latents has no such view",
        ),
        (
            "predictions",
            lambda rows: rows[2].update(path="gone"),
            "row 2: layout 2, view 0: predictions/gone/scene.glb is missing",
        ),
        (
            "layouts",
            lambda rows: rows[1]["placements"][1].update(asset_id="f" * 64),
            "row 1: layout 1, placement 1 names asset ffffffffffff…, which assets does not hold",
        ),
        (
            "layouts",
            lambda rows: rows[2].update(layout_id=1),
            "shard-00000.parquet, row 2: layout 1 is there twice or out of order",
        ),
        (
            "scenes/rooms",
            lambda rows: rows[1].update(path="gone"),
            "row 1: image 1: scenes/rooms/gone/scene.glb is missing",
        ),
        (
            "scenes/rooms",
            lambda rows: rows[0].update(labels=[7]),
            "row 0: image 0: 2 instances, 1 labels",
        ),
        (
            "scenes/rooms",
            lambda rows: rows[0].update(empty_instances=[2]),
            "row 0: image 0: empty_instances is [2], there are 2 instances",
        ),
        (
            "scenes/rooms",
            lambda rows: rows[1].update(image_index=0),
            "row 1: image 0 is there twice or out of order",
        ),
        (
            "comparison",
            lambda rows: rows.pop(),
            "shard-00000.parquet: pair 1 has 1 instances, num_true of its scene is 2",
        ),
        (
            "comparison",
            lambda rows: rows.pop(3),
            "shard-00000.parquet: pair 1 has no row of its scene before its instances",
        ),
        (
            "comparison",
            lambda rows: rows[1].update(partner_index=None),
            "shard-00000.parquet: pair 0 lacks 2 partners, num_missing of its scene is 1",
        ),
        (
            "comparison",
            lambda rows: rows[2].update(instance_index=0),
            "shard-00000.parquet, row 2: pair 0, instance 0 is there twice or out of order",
        ),
        (
            "assets",
            lambda rows: rows[1].update(geometry_path="geometry/none.npz"),
            "row 1: geometry_path names assets/geometry/none.npz, which is missing",
        ),
    ],
)
def test_row_that_cannot_be_is_named(workspace, folder, change, expected):
    edit_rows(workspace / folder, 1 if folder in ("renders", "latents") else 0, change)
    assert any(line.startswith(f"{folder}/") and expected in line for line in findings(workspace))


@pytest.mark.parametrize("row", [0, 63, 64, 130, 149])
def test_row_is_counted_from_the_start_of_its_file(tmp_path, row):
    views = [{"layout_id": layout, "view_index": view} for layout in (0, 1) for view in range(75)]
    grids = np.zeros((3, GRID_BYTES), np.uint8)
    rows = [view | {"num_instances": 2, "occupancy": grids} for view in views]
    write(tmp_path, "encode", "latents", pa.schema([*KEYS, OCCUPANCY]), rows, {})

    def damage(rows: list[dict]) -> None:
        rows[row]["occupancy"] = rows[row]["occupancy"][:GRID_BYTES]
        rows[row]["layout_id"] = 1000

    edit_rows(tmp_path / "latents", 0, damage)
    found = [line for line in findings(tmp_path) if "out of order" not in line]
    assert sorted(found) == [
        f"latents/shard-00000.parquet, row {row}: layout 1000, view {row % 75} belongs in "
        "shard-00001.parquet",
        f"latents/shard-00000.parquet, row {row}: occupancy has 1 entries, expected 3",
    ]


@pytest.mark.parametrize(
    ("folder", "change", "expected"),
    [
        ("renders", lambda rows: rows[0].update(rgb=b"no image"), "rgb does not decode"),
        (
            "renders",
            lambda rows: rows[0].update(rgb=rows[0]["rgb"][:200]),
            "rgb does not decode",
        ),
        (
            "renders",
            lambda rows: rows[0].update(width=32),
            r"rgb is \(16, 16, 4\), expected \(16, 32, 4\)",
        ),
        (
            "renders",
            lambda rows: rows[0].update(instance_map=rows[1]["instance_map"]),
            r"instance_map shows \[33, 54\] pixels",
        ),
        ("latents", put_nan, "scene_latent holds a value that is not finite"),
    ],
)
def test_bad_content_is_found_by_deep_alone(workspace, folder, change, expected):
    edit_rows(workspace / folder, 1, change)
    assert findings(workspace) == []
    found = findings(workspace, deep=True)
    assert found and re.match(f"{folder}/shard-00001.parquet, row 0: .*{expected}", found[0])


def test_truncated_geometry_is_found_by_deep(workspace):
    path = next((workspace / "assets/geometry").iterdir())
    path.write_bytes(path.read_bytes()[:-30])
    assert findings(workspace) == []
    assert any("does not open" in line for line in findings(workspace, deep=True))


def test_column_of_another_shape_is_found(workspace):
    path = workspace / "latents/shard-00000.parquet"
    table = pq.read_table(path)
    index = table.schema.get_field_index("scene_latent")
    field = table.schema.field(index)
    wrong = field.with_metadata({**field.metadata, b"shape": b"[4, 16, 16, 16]"})
    pq.write_table(table.cast(table.schema.set(index, wrong)), path)
    assert any(
        re.search(r"column scene_latent is .*\(4, 16.*expected.*\(8, 16", line)
        for line in findings(workspace)
    )


def without(path: Path, column: str) -> None:
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(column), path)


def test_column_that_one_shard_lacks_is_found(workspace):
    without(workspace / "renders/shard-00001.parquet", "amodal_px")
    edit_manifest(workspace / "renders", lambda manifest: sign(workspace / "renders", manifest))
    assert findings(workspace) == [
        "renders/shard-00001.parquet: column amodal_px is missing, the first shard has it"
    ]


def test_column_added_since_is_no_damage_but_one_that_is_needed_is(workspace):
    path = workspace / "assets/shard-00000.parquet"
    without(path, "num_bodies")
    edit_manifest(workspace / "assets", lambda manifest: sign(workspace / "assets", manifest))
    assert findings(workspace) == []
    without(path, "geometry_path")
    edit_manifest(workspace / "assets", lambda manifest: sign(workspace / "assets", manifest))
    [found] = findings(workspace)
    assert "column geometry_path is missing, and every shard needs it" in found


def test_one_dataset_is_checked_beside_what_it_refers_to(workspace):
    flip_byte(workspace / "latents/shard-00000.parquet", 100)
    edit_rows(workspace / "renders", 1, lambda rows: rows[5].update(layout_id=9))
    result = verify_path(Folder.at(workspace / "renders"))
    assert [check.name for check in result.checks] == ["renders"]
    assert any("layouts has no such layout" in finding.problem for finding in result.findings)


@pytest.mark.parametrize("folder", ["scenes", "scenes/rooms"])
def test_scenes_of_images_are_checked_beside_what_they_refer_to(workspace, folder):
    edit_identity(workspace / "model", lambda manifest: manifest["fields"].update(seed=1))
    result = verify_path(Folder.at(workspace / folder))
    assert [check.name for check in result.checks] == ["scenes/rooms"]
    assert any("was made from other model" in finding.problem for finding in result.findings)


def test_unfinished_scenes_of_images_are_found_and_logs_are_no_dataset(workspace):
    (workspace / "scenes/rooms/manifest.json").unlink()
    (workspace / "scenes/logs").mkdir()
    (workspace / "scenes/logs/infer.log").write_text("done")
    (workspace / "scenes/notes.txt").write_text("mine")
    assert findings(workspace) == [
        "scenes/rooms/manifest.json: missing: the dataset is unfinished; run its stage again, it "
        "resumes"
    ]


@pytest.mark.parametrize("folder", [*TABLES])
def test_every_folder_of_a_workspace_is_looked_at(tmp_path, folder):
    nested = TABLES[folder].nested
    (tmp_path / folder / ("one" if nested else "") / ".parts").mkdir(parents=True)
    [found] = findings(tmp_path)
    assert "manifest.json: missing: the dataset is unfinished" in found


@pytest.mark.parametrize("stores_tokens", [True, False])
def test_view_without_its_file_of_image_tokens_is_named_where_they_are_stored(stores_tokens):
    references = SimpleNamespace(
        kept_views=None,
        num_placements=None,
        stores_tokens=stores_tokens,
        has_file=lambda folder, path: (folder, path) == ("latents", "image_tokens/3_1.npy"),
    )
    rows = [{"layout_id": 3, "view_index": view, "num_instances": 2} for view in (1, 2)]
    _, check = ROW_CHECKS["latents"]
    found = [problem for row in rows for problem in check(row, references, "latents")]
    missing = ["layout 3, view 2: latents/image_tokens/3_2.npy is missing"]
    assert found == (missing if stores_tokens else [])
