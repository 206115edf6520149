"""Protects the source ``sweethome3d``: catalogue, licenses, files, and what it refuses."""

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.assets.licenses import license_of_text
from datagen.assets.objects import ImportOptions
from datagen.assets.source import SourceOptions, open_source
from datagen.assets.sweethome3d import SweetHome3DSource, read_properties, unescape
from datagen.errors import DatasetError, RowError

CATALOGUE = r"""
# a comment
! another
id=pack
name#1=Caf\u00e9 table, \
       round
category#1=Living room
model#1=/things/table/table.obj
width#1=80.5
depth#1=60
height#1=45.4
creator#1=Zo\u00eb
name#2 : Chair
category#2=Office
model#2=/things/chair/chair.obj
modelRotation#2=1 0 0 0 0 1 0 -1 0
width#2=40
depth#2=41
height#2=42
creator#2=Bob
name#3=Without a model
"""
CUBE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"


def write_pack(path: Path, catalogue: str = CATALOGUE, **changed: bytes | None) -> Path:
    files = {
        "PluginFurnitureCatalog.properties": catalogue.encode("latin-1"),
        "LICENSE.TXT": b"see\nhttp://creativecommons.org/licenses/by/3.0/us/ .",
        "things/table/table.obj": b"mtllib table.mtl\n" + CUBE,
        "things/table/table.mtl": b"newmtl m\nmap_Kd wood.png\n",
        "things/table/wood.png": b"not really",
        "things/chair/chair.obj": CUBE,
        **changed,
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def test_pack_lists_its_objects_with_names_sizes_and_license(tmp_path):
    table, chair = SweetHome3DSource(write_pack(tmp_path / "p.sh3f")).list_objects()
    assert (table.name, table.category, table.author) == ("Café table, round", "Living room", "Zoë")
    assert table.options == ImportOptions(size_m=(0.805, 0.6, 0.454))
    assert (chair.name, chair.license) == ("Chair", "CC-BY-3.0-US")
    assert chair.options.rotation == (1, 0, 0, 0, 0, 1, 0, -1, 0)


def test_fetch_unpacks_the_objects_own_folder_alone(tmp_path):
    source = SweetHome3DSource(write_pack(tmp_path / "p.sh3f"))
    table = source.list_objects()[0]
    model = source.fetch(table, tmp_path / "out")
    assert model.path.read_bytes().startswith(b"mtllib")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "table.obj",
        "table.mtl",
        "wood.png",
    }


def test_fetch_of_a_model_that_the_pack_lacks_is_a_row_error(tmp_path):
    source = SweetHome3DSource(write_pack(tmp_path / "p.sh3f", **{"things/chair/chair.obj": None}))
    with pytest.raises(RowError, match=r"chair\.obj"):
        source.fetch(source.list_objects()[1], tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"things/table/table.obj": CUBE + b"# longer\n"},
        {"things/table/wood.png": b"another image"},
        {"catalogue": CATALOGUE.replace("width#1=80.5", "width#1=80.6")},
        {"catalogue": CATALOGUE.replace("width#1", "modelRotation#1=0 0 1 0 1 0 -1 0 0\nwidth#1")},
    ],
    ids=["model", "texture", "size", "rotation"],
)
def test_asset_id_changes_with_what_shapes_the_object(tmp_path, change):
    before = SweetHome3DSource(write_pack(tmp_path / "a.sh3f")).list_objects()
    after = SweetHome3DSource(write_pack(tmp_path / "b.sh3f", **change)).list_objects()
    assert after[0].asset_id != before[0].asset_id
    assert after[1].asset_id == before[1].asset_id


def test_asset_id_does_not_change_with_words_about_the_object(tmp_path):
    renamed = CATALOGUE.replace("Office", "Kitchen").replace("creator#2=Bob", "creator#2=Eve")
    before = SweetHome3DSource(write_pack(tmp_path / "a.sh3f")).list_objects()
    after = SweetHome3DSource(write_pack(tmp_path / "b.sh3f", renamed)).list_objects()
    assert [obj.asset_id for obj in after] == [obj.asset_id for obj in before]


def test_fingerprint_follows_the_bytes_of_the_packs(tmp_path):
    pack = write_pack(tmp_path / "p.sh3f")
    first = SweetHome3DSource(tmp_path).fingerprint()
    assert SweetHome3DSource(pack).fingerprint() == first
    write_pack(pack, CATALOGUE + "\n")
    assert SweetHome3DSource(pack).fingerprint() != first


def test_repeated_entry_of_one_model_is_listed_once(tmp_path):
    second = CATALOGUE + "".join(
        line.replace("#1", "#9") + "\n" for line in CATALOGUE.splitlines() if "#1" in line
    )
    assert len(SweetHome3DSource(write_pack(tmp_path / "p.sh3f", second)).list_objects()) == 2


def test_chosen_packs_are_read_and_others_not(tmp_path):
    for name in ("a", "b"):
        write_pack(tmp_path / f"{name}.sh3f")
    found = open_source("sweethome3d", SourceOptions(path=tmp_path, packs=("b",)))
    uids = [o.uid for o in found.list_objects()]
    assert uids == ["b/things/table/table.obj#1", "b/things/chair/chair.obj#2"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("p.sh3f", b"no zip", "zip file"),
        (None, None, r"holds no \.sh3f"),
    ],
    ids=["damaged pack", "empty folder"],
)
def test_folder_without_a_sound_pack_says_what_is_wrong(tmp_path, name, data, words):
    if name:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=words):
        SweetHome3DSource(tmp_path).list_objects()


def test_pack_without_catalogue_or_objects_says_so(tmp_path):
    pack = write_pack(tmp_path / "p.sh3f", **{"PluginFurnitureCatalog.properties": None})
    with pytest.raises(DatasetError, match=r"PluginFurnitureCatalog\.properties"):
        SweetHome3DSource(pack).list_objects()
    write_pack(pack, "id=empty\n")
    with pytest.raises(DatasetError, match="no object"):
        SweetHome3DSource(pack).list_objects()


def test_missing_path_and_unknown_pack_name_what_is_there(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        SweetHome3DSource(tmp_path / "nowhere")
    write_pack(tmp_path / "here.sh3f")
    with pytest.raises(DatasetError, match="The packs there are here"):
        SweetHome3DSource(tmp_path, ("there",))


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        ("http://creativecommons.org/choose/zero/", "CC0-1.0"),
        ("see https://creativecommons.org/licenses/by/4.0/legalcode", "CC-BY-4.0"),
        ("http://creativecommons.org/licenses/by/3.0/", "CC-BY-3.0"),
        ("http://creativecommons.org/licenses/by/3.0/us/", "CC-BY-3.0-US"),
        ("all mine", "LicenseRef-unknown"),
    ],
)
def test_license_text_becomes_its_spdx_identifier(text, spdx):
    assert license_of_text(text) == spdx


def test_properties_follow_javas_rules():
    text = "a=1\n  b : 2 \nc 3\nd\\ e=f\\=g\npath=C\\:\\\\x\nlong=one\\\n   two\n#no=1\nempty="
    assert read_properties(text) == {
        "a": "1",
        "b": "2 ",
        "c": "3",
        "d e": "f=g",
        "path": "C:\\x",
        "long": "onetwo",
        "empty": "",
    }


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30))
def test_any_text_survives_being_escaped(text):
    escaped = "".join(
        f"\\u{ord(char):04x}" if ord(char) < 0x10000 else "\\\\" if char == "\\" else char
        for char in text
    )
    assert unescape(escaped) == text
