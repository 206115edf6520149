"""Protects the source ``folder``: which files are listed, what its table sets, what it refuses."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.assets.folder import FolderSource, unit_m
from datagen.errors import DatasetError

OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\n"


def write(folder: Path, **files: str) -> FolderSource:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return FolderSource(folder)


def test_every_model_is_listed_once_and_other_files_are_not(tmp_path):
    source = write(tmp_path, chairs__a_dot_obj=OBJ, b_dot_STL="x", notes_dot_txt="y", c_dot_obj="z")
    objects = source.list_objects()
    assert [obj.uid for obj in objects] == ["b.STL", "c.obj", "chairs/a.obj"]
    assert [obj.category for obj in objects] == ["", "", "chairs"]
    assert {obj.license for obj in objects} == {"LicenseRef-unknown"}


def test_copy_of_a_file_is_set_aside_and_still_listed(tmp_path):
    source = write(tmp_path, a_dot_obj=OBJ, b_dot_obj=OBJ)
    first, second = source.list_objects()
    assert first.fault is None
    assert second.fault is not None and second.fault.reason == "duplicate"
    assert first.asset_id != second.asset_id


def test_same_model_with_another_texture_is_another_object(tmp_path):
    text = "mtllib it.mtl\n" + OBJ
    files = {"a__it_dot_obj": text, "a__it_dot_mtl": "map_Kd p.png", "a__p_dot_png": "red"}
    files |= {name.replace("a__", "b__"): content for name, content in files.items()}
    source = write(tmp_path, **files | {"b__p_dot_png": "blue"})
    first, second = source.list_objects()
    assert second.fault is None
    assert first.asset_id != second.asset_id


def test_table_describes_files_and_leaves_the_rest(tmp_path):
    table = "path,name,license,author,category,unit\na.obj,Chair,CC-BY-4.0,Zoë,Seats,mm\n"
    source = write(tmp_path, a_dot_obj=OBJ, b_dot_obj="x", assets_dot_csv=table)
    chair, other = source.list_objects()
    assert (chair.name, chair.license, chair.author) == ("Chair", "CC-BY-4.0", "Zoë")
    assert (chair.category, chair.options.unit_m) == ("Seats", 0.001)
    assert (other.name, other.options.unit_m) == ("b", None)


def test_fingerprint_follows_bytes_and_table_but_not_the_place(tmp_path):
    one = write(tmp_path / "one", a_dot_obj=OBJ)
    same = write(tmp_path / "two", a_dot_obj=OBJ)
    other = write(tmp_path / "three", a_dot_obj=OBJ + "f 2 3 4\n")
    named = write(tmp_path / "four", a_dot_obj=OBJ, assets_dot_csv="path,license\na.obj,MIT\n")
    prints = [source.fingerprint() for source in (one, same, other, named)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("name\nx\n", "add path"),
        ("path,colour\na.obj,red\n", "'colour'"),
        ("path\nlost.obj\n", "line 2: 'lost.obj'"),
        ("path\na.obj\na.obj\n", "line 3 describes a.obj a second time"),
        ("path,up_axis\na.obj,X\n", "up_axis 'X'. Expected Y or Z"),
        ("path,unit\na.obj,furlong\n", "unit 'furlong'"),
        ("path,unit\na.obj,-1\n", "unit '-1'"),
        ("path,license\na.obj,free for all\n", "SPDX"),
        ("path,name\na.obj,one,two\n", "more values than columns"),
    ],
)
def test_bad_table_is_refused_with_its_line(tmp_path, table, words):
    source = write(tmp_path, a_dot_obj=OBJ, assets_dot_csv=table)
    with pytest.raises(DatasetError, match=words) as error:
        source.list_objects()
    assert "assets.csv" in str(error.value)


def test_folder_without_models_says_which_files_it_wants(tmp_path):
    with pytest.raises(DatasetError, match=r"none of its 1 files.*\.glb"):
        write(tmp_path, notes_dot_txt="y").list_objects()


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_any_positive_number_is_a_unit(metres):
    assert unit_m(repr(metres)) == metres


@pytest.mark.parametrize("word", ["nan", "inf", "0", "-3", "metre", ""])
def test_no_other_word_is_a_unit(word):
    with pytest.raises(ValueError):
        unit_m(word)
