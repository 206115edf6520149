"""Protects the source ``front3d``: its rooms, splits and objects."""

import json

import pytest

from datagen.assets.front3d import Front3DSource, read_rooms
from datagen.errors import DatasetError


def write_lists(folder, num_rooms, **changed):
    rooms = [f"house/{index}" for index in range(num_rooms)]
    content = {
        "midi_room_ids": rooms,
        "midi_furniture_ids": [["Bed_a_0", "Lamp_b_1.glb"]] * num_rooms,
    }
    for name, value in (content | changed).items():
        (folder / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def test_last_thousand_rooms_are_the_test_split(tmp_path):
    write_lists(tmp_path, 1003)
    train, test = read_rooms(tmp_path, "train"), read_rooms(tmp_path, "test")
    assert [room.index for room in train] == [0, 1, 2]
    assert [room.index for room in test] == list(range(3, 1003))
    assert read_rooms(tmp_path) == train + test
    assert train[1].uids == ["house/1/Bed_a_0", "house/1/Lamp_b_1"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"midi_furniture_ids": []}, "2 rooms and midi_furniture_ids.json 0"),
        ({"midi_room_ids": "{"}, "is not JSON"),
        ({"midi_room_ids": {}}, "holds a dict"),
        ({}, "leave none for the split train"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, changed, words):
    with pytest.raises(DatasetError, match=words):
        read_rooms(write_lists(tmp_path, 2, **changed), "train")


def test_missing_list_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"midi_room_ids\.json: no such file"):
        read_rooms(tmp_path)


@pytest.mark.parametrize("inside", ["", "3D-FRONT-SCENE"])
def test_every_object_of_every_room_is_listed_even_when_two_are_equal(tmp_path, inside):
    for uid in ("h1/Bedroom-1/Bed_x_0", "h1/Bedroom-1/Lamp_y_1", "h2/Hall-7/Lamp_y_0"):
        path = tmp_path / inside / f"{uid}.glb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"the same")
    objects = Front3DSource(tmp_path).list_objects()
    assert [obj.uid for obj in objects] == [
        "h1/Bedroom-1/Bed_x_0",
        "h1/Bedroom-1/Lamp_y_1",
        "h2/Hall-7/Lamp_y_0",
    ]
    assert [obj.category for obj in objects] == ["Bed", "Lamp", "Lamp"]
    assert {obj.license for obj in objects} == {"CC-BY-NC-4.0"}
    assert len({obj.asset_id for obj in objects}) == 3
