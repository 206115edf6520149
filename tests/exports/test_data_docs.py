"""docs/data.md has the declared tables; a column declared once is in all documents."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from datagen.errors import DatasetError
from datagen.exports.card import CARD, CROISSANT, write_card
from datagen.exports.data_docs import BEGIN, END, data_docs, write_data_docs
from datagen.shards import Folder, open_dataset
from datagen.shards.declared import PREDICTIONS
from datagen.shards.tables import column
from datagen.stages.tables import TABLES
from datagen.verify.workspace import verify_workspace
from tests.shards.tiny import write

DATA_MD = Path(__file__).resolve().parents[2] / "docs/data.md"


def test_docs_have_the_tables_as_they_are_declared():
    text = DATA_MD.read_text()
    assert data_docs(text, TABLES.values()) == text, (
        "docs/data.md is out of date: python -m datagen.exports.data_docs docs/data.md"
    )


def test_text_outside_the_generated_part_stays(tmp_path):
    path = tmp_path / "data.md"
    path.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    write_data_docs(path)
    text = path.read_text()
    assert text.startswith(f"before\n{BEGIN}\n") and text.endswith(f"{END}\nafter\n")
    assert "stale" not in text
    assert "| `scenes/NAME/` | `datagen infer --image IMAGE --masks MASKS` | an image file" in text
    assert "| `slat_model/` | `datagen train --model slat-small` | no rows, only files |" in text
    assert "| `radius_m` | double | m | Largest horizontal distance of a vertex" in text
    assert "| `slat_coords` | uint8 (-1, 3) | voxels | The V voxels" in text


def test_file_without_markers_is_refused():
    with pytest.raises(DatasetError, match="lacks a marker"):
        data_docs(f"{BEGIN}\nno end\n", TABLES.values())


def test_added_column_is_declared_once_and_is_in_all_documents(tmp_path, monkeypatch):
    """An added column is one line of the table, and the value in the rows of its stage."""
    steps = column("num_steps", pa.int32(), "Steps of the sampler.", unit="steps")
    table = replace(PREDICTIONS, columns=(*PREDICTIONS.columns, steps))
    monkeypatch.setitem(TABLES, table.folder, table)
    row = dict.fromkeys(PREDICTIONS.schema.names) | {"layout_id": 0, "view_index": 0}
    row |= {"num_instances": 1, "path": "0_0", "num_steps": 25}
    for name in ("scene.glb", "occupancy.npz", "meta.json"):
        Folder.at(tmp_path / "predictions/0_0").write_bytes(name, b"made")

    write(tmp_path, "infer", table.folder, table.schema, [row], {})
    write_card(Folder.at(tmp_path))

    assert [row["num_steps"] for row in open_dataset(tmp_path / "predictions")] == [25]
    line = "| `num_steps` | int32 | steps | Steps of the sampler. |\n"
    assert line in (tmp_path / CARD).read_text()
    assert line in data_docs(f"{BEGIN}{END}", TABLES.values())
    assert "Steps of the sampler. Unit: steps." in (tmp_path / CROISSANT).read_text()
    assert verify_workspace(Folder.at(tmp_path)).findings == []


def test_column_of_another_type_than_declared_is_found(tmp_path, monkeypatch):
    steps = column("num_steps", pa.int32(), "Steps of the sampler.")
    table = replace(PREDICTIONS, columns=(*PREDICTIONS.columns, steps))
    row = dict.fromkeys(table.schema.names) | {"layout_id": 0, "view_index": 0, "path": "0_0"}
    write(tmp_path, "infer", table.folder, table.schema, [row], {})
    other = replace(steps, field=pa.field("num_steps", pa.string()))
    monkeypatch.setitem(TABLES, table.folder, replace(table, columns=(*table.columns[:-1], other)))
    found = [str(finding) for finding in verify_workspace(Folder.at(tmp_path)).findings]
    assert any("column num_steps is int32, expected string" in line for line in found)
