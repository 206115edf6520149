"""Hugging Face and Croissant's own reader open the card and the Croissant file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from datagen.exports.card import CARD, CROISSANT, MARK, hub_license, write_card
from datagen.shards import Folder, open_dataset
from datagen.shards.declared import ASSETS, LAYOUTS
from datagen.shards.tables import Column
from datagen.stages.tables import TABLES
from tests.shards.tiny import LICENSES, NUM_LAYOUTS, NUM_VIEWS, SIZE_PX, write


def is_struct(column: Column) -> bool:
    """Return whether Croissant leaves a column out."""
    kind = column.field.type
    return pa.types.is_struct(kind.value_type if pa.types.is_list(kind) else kind)


@pytest.fixture
def workspace(tiny, tmp_path) -> Path:
    root = Path(shutil.copytree(tiny, tmp_path / "workspace"))
    write_card(Folder.at(root))
    return root


@pytest.mark.parametrize(
    "name",
    ["assets", "layouts", "renders", "latents", "predictions", "scenes/rooms", "comparison"],
)
def test_hugging_face_opens_the_folder_by_its_card(workspace, tmp_path, name):
    import datasets

    config, cache = name.replace("/", "-"), str(tmp_path / "cache")
    rows = datasets.load_dataset(str(workspace), config, split="train", cache_dir=cache)
    assert len(rows) == len(open_dataset(workspace / name))


def test_card_lists_licenses_sizes_and_shapes(workspace):
    text = (workspace / CARD).read_text()
    assert "license: [cc-by-4.0, cc0-1.0]" in text
    assert "| CC-BY-4.0 | 1 |" in text
    assert f"| `renders` | a view, kept or dropped | {NUM_LAYOUTS * NUM_VIEWS} | 2 |" in text
    assert "| `instance_latents` | float16 (-1, 8, 16, 16, 16) |" in text
    assert "| `placements` | list of struct |" in text
    assert "| `scenes/rooms` | an image file from which a scene was sampled | 2 | 1 |" in text


def test_card_and_croissant_have_the_meaning_and_unit_of_every_column(workspace):
    card = (workspace / CARD).read_text()
    croissant = (workspace / CROISSANT).read_text()
    for table in TABLES.values():
        for column in table.columns if table.folder != "scores" else ():
            assert f" | {column.unit} | {column.meaning} |\n" in card, column.name
            if not is_struct(column):
                meaning = json.dumps(column.meaning)[1:-1]
                assert meaning in croissant, column.name
    radius = 'vertex from the vertical axis through the origin. Unit: m."'
    assert radius in croissant


def test_croissant_is_valid_and_gives_the_rows(workspace):
    import mlcroissant

    dataset = mlcroissant.Dataset(workspace / CROISSANT)
    assert not dataset.metadata.issues.errors
    views = list(dataset.records("renders"))
    assert len(views) == NUM_LAYOUTS * NUM_VIEWS
    assert views[0]["renders/rgb"].size == (SIZE_PX, SIZE_PX)
    latents = next(iter(dataset.records("latents")))
    ours = next(iter(open_dataset(workspace / "latents")))
    scene = np.frombuffer(latents["latents/scene_latent"], "<f2").reshape(8, 16, 16, 16)
    assert np.array_equal(scene, ours["scene_latent"])


def test_croissant_has_the_sha256_and_size_of_every_shard(workspace):
    described = json.loads((workspace / CROISSANT).read_text())
    files = {f["@id"]: f for f in described["distribution"] if f["@type"] == "cr:FileObject"}
    shards = sorted(workspace.glob("**/*.parquet"))
    assert sorted(files) == [path.relative_to(workspace).as_posix() for path in shards]
    for path in shards:
        file = files[path.relative_to(workspace).as_posix()]
        assert file["contentSize"] == f"{path.stat().st_size} B"
        assert file["sha256"] == Folder.at(path.parent).sha256(path.name)


def test_card_written_again_has_the_same_bytes(workspace):
    before = [(workspace / name).read_bytes() for name in (CARD, CROISSANT)]
    write_card(Folder.at(workspace))
    assert [(workspace / name).read_bytes() for name in (CARD, CROISSANT)] == before


def test_readme_of_the_user_is_left_unchanged(workspace):
    own = (workspace / CARD).read_text().replace(MARK, "")
    (workspace / CARD).write_text(own)
    write_card(Folder.at(workspace))
    assert (workspace / CARD).read_text() == own


def test_card_of_an_empty_workspace_is_not_written(tmp_path):
    write_card(Folder.at(tmp_path))
    assert list(tmp_path.iterdir()) == []


def quarantine_an_asset(root: Path) -> None:
    """Write the assets with one more that is quarantined and has another license."""
    rows = list(open_dataset(root / "assets"))
    names = ["object_index", "source", "source_uid", "name", "category", "author"]
    bad = dict.fromkeys(ASSETS.schema.names) | {name: rows[-1][name] for name in names}
    bad |= {"object_index": len(rows), "asset_id": "0" * 64, "license": "GPL-3.0-only"}
    rows.append(bad | {"status": "quarantined", "reason": "no surface"})
    write(root, "assets", "assets", ASSETS.schema, rows, {}, unit="object_index")


@pytest.mark.parametrize("layouts", [True, False])
def test_license_of_a_quarantined_object_is_not_counted(tiny, tmp_path, layouts):
    root = tmp_path / "bare"
    for name in ("assets", "layouts") if layouts else ("assets",):
        shutil.copytree(tiny / name, root / name)
    quarantine_an_asset(root)
    write_card(Folder.at(root))
    text = (root / CARD).read_text()
    assert "license: [cc-by-4.0, cc0-1.0]" in text
    assert "gpl" not in text.lower()
    licenses = json.loads((root / CROISSANT).read_text())["license"]
    assert licenses == [f"https://spdx.org/licenses/{name}.html" for name in sorted(LICENSES)]


def test_only_objects_in_scenes_count_for_licenses(tiny, tmp_path):
    root = Path(shutil.copytree(tiny, tmp_path / "placed"))
    [shown, _] = open_dataset(root / "assets")
    rows = list(open_dataset(root / "layouts"))
    for row in rows:
        row["placements"] = [p for p in row["placements"] if p["asset_id"] == shown["asset_id"]]
    shutil.rmtree(root / "layouts")
    write(root, "layouts", "layouts", LAYOUTS.schema, rows, {})
    write_card(Folder.at(root))
    text = (root / CARD).read_text()
    assert f"| {shown['license']} | 1 |" in text
    assert f"license: [{shown['license'].lower()}]" in text


def test_card_without_layouts_names_no_attribution(tiny, tmp_path):
    shutil.copytree(tiny / "assets", tmp_path / "bare/assets")
    write_card(Folder.at(tmp_path / "bare"))
    text = (tmp_path / "bare" / CARD).read_text()
    assert "| CC0-1.0 | 1 |" in text and "ATTRIBUTION.md" not in text


@pytest.mark.parametrize(
    ("spdx_id", "word"),
    [
        ("CC0-1.0", "cc0-1.0"),
        ("GPL-3.0-or-later", "gpl-3.0"),
        ("LAL-1.3", "other"),
        ("LicenseRef-unknown", "other"),
    ],
)
def test_license_has_the_name_of_the_hub(spdx_id, word):
    assert hub_license(spdx_id) == word
