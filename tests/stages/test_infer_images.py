"""``datagen infer`` from image files, with a tiny model of random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datagen.cli import main
from datagen.models import SceneModel, save_model
from datagen.sampling.surfaces import read_scene_glb
from datagen.shards import open_dataset
from tests.published import dinov2_weights, write_iscene_package
from tests.stages.tiny_networks import MODEL, write_pair

GOLDEN_DECODER = str(Path(__file__).parents[1] / "golden" / "small_ss_dec")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    torch.manual_seed(0)
    network = SceneModel(**MODEL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_model(network, path, MODEL)
    return str(path)


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def infer(*words: str) -> int:
    return main(["infer", *words, "--steps", "2", "--device", "cpu"])


def test_image_and_masks_become_a_scene_with_a_node_an_instance(tmp_path, model):
    image, masks = write_pair(tmp_path, "room")
    assert infer("--image", image, "--masks", masks, "--model", model, "--out", "result") == 0
    folder = tmp_path / "result" / "room"
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["labels"] == [3, 6, 9] and meta["num_instances"] == 3
    [row] = open_dataset("result")
    assert (row["image"], row["path"], row["labels"]) == ("room.jpg", "room", [3, 6, 9])
    with np.load(folder / "occupancy.npz") as file:
        assert file["instances"].shape == (3, 64, 64, 64)
        filled = [i for i in range(3) if file["instances"][i].any()]
    assert list(read_scene_glb(folder / "scene.glb")) == filled
    assert [(folder / f"instance_{i:02d}.glb").is_file() for i in filled] == [True] * len(filled)
    assert sorted(row["empty_instances"]) == sorted({0, 1, 2} - set(filled))
    assert Image.open(folder / "preview.png").width > 800  # input, masks, sampled


def test_embedded_model_puts_what_is_seen_where_it_is_seen(tmp_path):
    """It knows left from right, for images unlike those it was trained on."""
    image = np.zeros((96, 96, 3), np.uint8)
    ids = np.zeros((96, 96), np.uint8)
    for label, columns in ((1, slice(8, 36)), (2, slice(60, 88))):
        image[30:66, columns] = (150, 110, 80)
        ids[30:66, columns] = label
    Image.fromarray(image).save("boxes.png")
    Image.fromarray(ids).save("ids.png")
    words = ("--image", "boxes.png", "--masks", "ids.png", "--model", "small", "--out", "scenes")
    assert main(["infer", *words, "--steps", "10", "--device", "cpu"]) == 0
    with np.load("scenes/boxes/occupancy.npz") as file:
        left, right = (np.argwhere(grid)[:, 0].mean() for grid in file["instances"])
    assert left + 8 < right


def test_default_folder_is_the_workspaces_scenes_and_a_rerun_does_nothing(tmp_path, model, capsys):
    image, masks = write_pair(tmp_path, "room")
    words = ("--image", image, "--masks", masks, "--model", model, "--root", "w")
    assert infer(*words) == 0
    meta = tmp_path / "w" / "scenes" / "room" / "room" / "meta.json"
    before = meta.stat().st_mtime_ns
    assert infer(*words) == 0
    assert meta.stat().st_mtime_ns == before
    assert "complete, reusing" in capsys.readouterr().err


def test_folder_of_images_becomes_a_folder_of_scenes(tmp_path, model):
    for name in ("b_rgb", "a"):
        write_pair(tmp_path / "in", name)
    (tmp_path / "in" / "b_rgb_seg.png").rename(tmp_path / "in" / "b_seg.png")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    words = ("--image", "in", "--masks", "in", "--model", model, "--out", "scenes")
    assert infer(*words) == 0
    assert [row["path"] for row in open_dataset("scenes")] == ["a", "b"]
    single = ("--image", "in/a.jpg", "--masks", "in/a_seg.png", "--model", model, "--out", "one")
    assert infer(*single) == 0
    ours, theirs = (np.load(Path(f) / "a/occupancy.npz") for f in ("scenes", "one"))
    np.testing.assert_array_equal(ours["instances"], theirs["instances"])


def test_published_package_is_run_with_its_own_encoder_and_decoder(tmp_path):
    pytest.importorskip("transformers")
    write_iscene_package(tmp_path / "package")
    image, masks = write_pair(tmp_path, "room", 2)
    words = ["--image", image, "--masks", masks, "--model", "package", "--decoder", GOLDEN_DECODER]
    assert infer(*words, "--out", "own") == 0
    torch.save(dinov2_weights(), tmp_path / "dino.pth")
    assert infer(*words, "--image-encoder", "dino.pth", "--out", "given") == 0
    own, given = (np.load(tmp_path / f / "room/occupancy.npz") for f in ("own", "given"))
    np.testing.assert_array_equal(own["scene"], given["scene"])


def test_instance_of_three_pixels_and_other_size_are_done_with_a_warning(tmp_path, model, capsys):
    image, masks = write_pair(tmp_path, "room")
    ids = np.zeros((96, 100), np.uint8)
    ids[20:70, 20:70] = 1
    ids[80, 80:83] = 2
    Image.fromarray(ids).save(masks)
    assert infer("--image", image, "--masks", masks, "--model", model, "--out", "o") == 0
    said = capsys.readouterr().err
    assert "instance 1 (label 2) has only 3 pixels" in said
    assert "64×48 px is resized to its masks' 100×96" in said
    [row] = open_dataset("o")
    assert row["num_instances"] == 2 and len(row["warnings"]) == 2


def test_more_instances_than_a_batch_are_one_scene(tmp_path, model):
    image, masks = write_pair(tmp_path, "crowd", 12)
    words = ("--image", image, "--masks", masks, "--model", model, "--out", "o")
    assert infer(*words, "--max-batch", "5") == 0
    [row] = open_dataset("o")
    assert row["num_instances"] == 12


def test_bad_image_of_a_folder_is_a_failed_row_and_the_others_are_made(tmp_path, model, capsys):
    write_pair(tmp_path / "in", "a")
    write_pair(tmp_path / "in", "b")
    (tmp_path / "in" / "a.jpg").write_text("not an image")
    words = ("--image", "in", "--masks", "in", "--model", model, "--out", "o")
    assert infer(*words) == 2
    assert "1 of 2 images failed" in capsys.readouterr().err
    assert [row["path"] for row in open_dataset("o")] == ["b"]


def spoil_masks(folder: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "room_seg.png")


@pytest.mark.parametrize(
    ("spoil", "words", "message"),
    [
        (spoil_masks, [], "all 81 pixels are 0"),
        (lambda f: (f / "room.jpg").write_text("text"), [], "room.jpg: not a readable image"),
        (lambda f: (f / "room_seg.png").unlink(), [], "--masks room_seg.png: no such file"),
        (lambda f: (f / "room.jpg").unlink(), [], "--image room.jpg: no such file"),
        (lambda f: None, ["--masks", "."], "one is a folder"),
        (lambda f: None, ["--model", "/nowhere/model"], "model.json is not there"),
        (lambda f: None, ["--model", GOLDEN_DECODER], "holds a SparseStructureDecoder"),
        (lambda f: None, ["--image-encoder", "dinov2_vitl14_reg"], "has an encoder of its own"),
        (lambda f: None, ["--max-batch", "0"], "max_batch must be at least 1"),
        (lambda f: None, ["--steps", "0"], "steps must be at least 1"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, model, capsys, spoil, words, message):
    write_pair(tmp_path, "room")
    spoil(tmp_path)
    before = {"--image": "room.jpg", "--masks": "room_seg.png", "--model": model, "--out": "o"}
    given = before | dict(zip(words[::2], words[1::2], strict=True))
    arguments = [word for pair in given.items() for word in pair]
    steps = [] if "--steps" in given else ["--steps", "2"]
    assert main(["infer", *arguments, *steps, "--device", "cpu"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "o" / "manifest.json").exists()


def test_no_masks_and_small_decoder_for_published_weights_are_said(tmp_path, model, capsys):
    image, masks = write_pair(tmp_path, "room")
    assert infer("--image", image, "--model", model) == 2
    assert "no masks given" in capsys.readouterr().err
    write_iscene_package(tmp_path / "package")
    assert infer("--image", image, "--masks", masks, "--model", "package") == 2
    assert "samples TRELLIS's latents, which need another decoder" in capsys.readouterr().err
    assert infer("--image", image, "--masks", masks) == 2
    assert "dataset/model is missing" in capsys.readouterr().err


def test_folder_with_an_image_without_masks_stops_before_any_work(tmp_path, model, capsys):
    write_pair(tmp_path / "in", "a")
    write_pair(tmp_path / "in", "b")
    (tmp_path / "in" / "b_seg.png").unlink()
    assert infer("--image", "in", "--masks", "in", "--model", model) == 2
    assert "1 images cannot be paired (first: b.jpg has no masks" in capsys.readouterr().err


def test_two_images_of_one_name_are_refused(tmp_path, model, capsys):
    write_pair(tmp_path / "in", "a")
    Image.open(tmp_path / "in" / "a.jpg").save(tmp_path / "in" / "a_rgb.png")
    assert infer("--image", "in", "--masks", "in", "--model", model) == 2
    assert "2 images share a name (first: a)" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
def test_ray_workers_give_the_scenes_of_one_process(tmp_path, model):
    for name in ("a", "b"):
        write_pair(tmp_path / "in", name)
    words = ("--image", "in", "--masks", "in", "--model", model)
    assert infer(*words, "--out", "local") == 0
    assert infer(*words, "--out", "ray", "--workers", "2") == 0
    for name in ("a", "b"):
        ours, theirs = (np.load(Path(f) / name / "occupancy.npz") for f in ("local", "ray"))
        agreement = (ours["instances"] == theirs["instances"]).mean()
        assert agreement > 0.999  # another number of threads adds in another order
