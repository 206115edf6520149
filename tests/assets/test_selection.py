"""Protects the choice of objects: allowed licenses, and reviewed lists that refuse other bytes."""

from dataclasses import replace
from pathlib import Path

import pytest

from datagen.assets.objects import SourceObject
from datagen.assets.selection import (
    LIST_COLUMNS,
    read_list,
    restrict_to_list,
    set_aside_unlicensed,
)
from datagen.errors import DatasetError
from tests.assets.reviewed_lists import write_list

OBJECTS = [
    SourceObject(
        uid=f"o{index}",
        name=f"object {index}",
        category="",
        license=license_id,
        author="Zoë, and others",
        asset_id=f"{index:064x}",
    )
    for index, license_id in enumerate(["CC0-1.0", "CC-BY-4.0", "LicenseRef-unknown"])
]


def test_objects_of_other_licenses_stay_listed_with_their_reason():
    marked = set_aside_unlicensed(OBJECTS, ("CC0-1.0", "CC-BY-4.0"))
    assert [obj.fault and obj.fault.reason for obj in marked] == [None, None, "license"]
    assert set_aside_unlicensed(OBJECTS, ()) == OBJECTS


def test_list_restricts_to_its_objects_and_its_license_counts(tmp_path):
    path = tmp_path / "list.csv"
    write_list(path, [replace(OBJECTS[2], license="MIT"), OBJECTS[0]], "folder")
    found = restrict_to_list(OBJECTS, "folder", path)
    assert found == [replace(OBJECTS[2], license="MIT"), OBJECTS[0]]


def test_other_bytes_are_refused_and_named(tmp_path):
    path = tmp_path / "list.csv"
    write_list(path, OBJECTS, "folder")
    changed = [OBJECTS[0], replace(OBJECTS[1], asset_id="f" * 64), OBJECTS[2]]
    with pytest.raises(DatasetError, match=r"1 \(o1\) of its 3 objects have other bytes"):
        restrict_to_list(changed, "folder", path)
    with pytest.raises(DatasetError, match=r"2 \(o1, o2\) of its 3 objects are not in the source"):
        restrict_to_list(OBJECTS[:1], "folder", path)
    with pytest.raises(DatasetError, match="names no object of source objaverse"):
        restrict_to_list(OBJECTS, "objaverse", path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a,b\n", "its columns are a, b"), (",".join(LIST_COLUMNS) + "\n1,2\n", "line 2 has not 6")],
)
def test_file_that_is_no_list_is_refused(tmp_path, text, words):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DatasetError, match=words):
        restrict_to_list(OBJECTS, "folder", tmp_path / "list.csv")


def test_reviewed_list_of_public_domain_furniture_holds_175_objects_of_that_license():
    path = Path(__file__).resolve().parents[2] / "manifests/sweethome3d_cc0.csv"
    rows = list(read_list(path))
    assert len(rows) == len({row.asset_id for row in rows}) == 175
    assert {row.license for row in rows} == {"CC0-1.0"}
    assert {row.source for row in rows} == {"sweethome3d"}
    assert all(row.author and row.name for row in rows)
