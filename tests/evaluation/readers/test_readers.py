"""Each method's output, on files in its own layout."""

import json

import numpy as np
import pytest
import trimesh

from datagen.errors import DatasetError, RowError
from datagen.evaluation.readers import PREDICTED, extent, found_scenes, reach
from datagen.sampling.surfaces import write_scene_glb
from tests.evaluation.readers.files import box, degenerate, sizes, write


def read_all(name, path):
    layout = PREDICTED[name]
    return {scene: layout.read(where) for scene, where in layout.find(path).items()}


def test_iscene_takes_labels_as_places_and_leaves_room_for_an_absent_one(tmp_path):
    for label, size in ((1, 0.1), (3, 0.3)):
        write(
            tmp_path / "room" / f"instance_{label:02d}.glb",
            box(size),
            names=[f"instance_{label:02d}_0"],
        )
    write(tmp_path / "room" / "scene_pred.glb", box(0.9), names=["instance_01_0"])
    assert {k: sizes(v) for k, v in read_all("iscene", tmp_path).items()} == {
        "room": [0.1, None, 0.3]
    }


def test_iscene_scene_alone_is_read_by_its_nodes(tmp_path):
    parts = [box(0.1), box(0.2, (0.3, 0, 0)), box(0.2, (0.4, 0, 0))]
    write(
        tmp_path / "scene_pred.glb",
        *parts,
        names=["instance_01_0", "instance_02_0", "instance_02_1"],
    )
    [scene] = read_all("iscene", tmp_path).values()
    assert sizes(scene) == [0.1, 0.3]  # the second's two nodes span 0.2 … 0.5


def test_iscene_label_that_is_a_colour_is_refused(tmp_path):
    write(tmp_path / "instance_16711680.glb", box(0.1))
    with pytest.raises(RowError, match="16711680"):
        read_all("iscene", tmp_path)


def test_y_up_files_become_z_up(tmp_path):
    write(tmp_path / "a" / "instance_01.glb", box(0.1, (0.1, 0.2, 0.3)))
    [scene] = read_all("iscene", tmp_path).values()
    assert scene.meshes[0][0].mean(axis=0) == pytest.approx([0.1, -0.3, 0.2], abs=1e-6)


def test_datagen_predictions_know_the_missing_last_instance_from_meta(tmp_path):
    folder = tmp_path / "predictions" / "7_3"
    write(folder / "scene.glb", box(0.1), box(0.2), names=["instance_00", "instance_01"])
    (folder / "meta.json").write_text(json.dumps({"num_instances": 3}))
    assert sizes(read_all("datagen", tmp_path)["7_3"]) == [0.1, 0.2, None]


def test_datagen_prediction_that_is_all_empty_is_all_missing(tmp_path):
    write_scene_glb(tmp_path / "7_3" / "scene.glb", {})
    (tmp_path / "7_3" / "meta.json").write_text(json.dumps({"num_instances": 2}))
    assert sizes(read_all("datagen", tmp_path)["7_3"]) == [None, None]


def test_midi_geometry_ten_comes_after_nine_wherever_it_stands_in_the_file(tmp_path):
    order = [10, 2, 0, 1, *range(3, 10)]
    write(
        tmp_path / "output.glb",
        *(box(0.1 + 0.05 * i) for i in order),
        names=[f"geometry_{i}" for i in order],
    )
    [(scene_id, scene)] = read_all("midi", tmp_path).items()
    assert scene_id == tmp_path.name
    assert sizes(scene) == pytest.approx([0.1 + 0.05 * i for i in range(11)])


def test_midi_test_step_files_are_named_by_room_and_single_instances_left_out(tmp_path):
    write(tmp_path / "it0-test-0_3-abc-Bedroom-12_scene.glb", box(0.5))
    write(tmp_path / "it0-test-0_3-abc-Bedroom-12_0-chair-0.glb", box(0.5))
    assert list(read_all("midi", tmp_path)) == ["abc-Bedroom-12"]


def test_scenegen_node_transforms_are_applied_in_file_order(tmp_path):
    turn = trimesh.transformations.scale_and_translate([0.5] * 3, [0.1, 0.2, 0.0])
    write(
        tmp_path / "12.glb",
        box(1.0),
        box(1.0),
        names=["world_b", "world_a"],
        transforms=[np.eye(4), turn],
    )
    scene = read_all("scenegen", tmp_path)["12"]
    assert sizes(scene) == [1.0, 0.5]
    assert scene.meshes[1][0].mean(axis=0) == pytest.approx([0.1, 0.0, 0.2], abs=1e-6)


def test_partcrafter_failed_part_is_missing_and_the_merged_object_not_read(tmp_path):
    write(tmp_path / "tag" / "part_00.glb", box(0.4))
    write(tmp_path / "tag" / "part_01.glb", degenerate())
    write(tmp_path / "tag" / "object.glb", box(0.9))
    assert sizes(read_all("partcrafter", tmp_path)["tag"]) == [0.4, None]
    assert PREDICTED["partcrafter"].match == "overlap"


def test_gen3dsr_camera_frame_is_rotated_and_the_background_left_out(tmp_path):
    folder = tmp_path / "rec_5" / "reconstruction"
    write(folder / "10_chair.glb", box(0.2))
    write(folder / "2_bed.glb", box(0.5, (1.0, 0.5, 3.0)))
    for name in ("full_scene.glb", "background.glb"):
        write(folder / name, box(9.0))
    (folder / "background.ply").write_text("ply")
    scene = read_all("gen3dsr", tmp_path)["5"]
    assert sizes(scene) == [0.5, 0.2]
    assert scene.meshes[0][0].mean(axis=0) == pytest.approx([1.0, 3.0, -0.5], abs=1e-6)
    assert scene.left_out == ("background.glb", "background.ply", "full_scene.glb")


def test_glb_folder_takes_files_and_folders_as_scenes(tmp_path):
    write(tmp_path / "one.glb", box(0.1), box(0.2))
    write(tmp_path / "two" / "a.glb", box(0.3))
    write(tmp_path / "two" / "b.glb", box(0.4))
    found = {k: sizes(v) for k, v in read_all("glb", tmp_path).items()}
    assert found == {"one": [0.1, 0.2], "two": [0.3, 0.4]}


def test_reach_and_extent_ignore_vertices_without_a_face(tmp_path):
    mesh = box(0.4)
    stray = trimesh.Trimesh([*mesh.vertices, [9, 9, 9]], mesh.faces, process=False)
    [scene] = read_all("glb", write(tmp_path / "a.glb", stray)).values()
    assert reach(scene) == pytest.approx((-0.2, 0.2))
    assert extent(scene) == pytest.approx(0.4)


def test_text_file_named_glb_is_refused_with_what_it_begins_with(tmp_path):
    (tmp_path / "a.glb").write_text("<html>not found</html>")
    with pytest.raises(RowError, match=r"a\.glb: begins with b'<html>no'"):
        read_all("glb", tmp_path)


def test_cut_glb_is_refused(tmp_path):
    whole = write(tmp_path / "a.glb", box(0.1)).read_bytes()
    for length in (10, 200, len(whole) - 100):
        (tmp_path / "a.glb").write_bytes(whole[:length])
        with pytest.raises(RowError, match=r"a\.glb"):
            read_all("glb", tmp_path)


def test_glb_without_triangles_is_refused(tmp_path):
    write(tmp_path / "a.glb", degenerate())
    with pytest.raises(RowError, match="no triangle"):
        read_all("glb", tmp_path)


def test_path_without_scenes_of_the_layout_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DatasetError, match=r"notes\.txt"):
        found_scenes(tmp_path, PREDICTED["iscene"], "--pred")
    with pytest.raises(DatasetError, match="no such file"):
        found_scenes(tmp_path / "none", PREDICTED["iscene"], "--pred")
