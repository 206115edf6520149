"""``datagen infer --models structure latent`` with tiny networks of random weights."""

import json

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from datagen.cli import main
from datagen.errors import RowError
from datagen.models import (
    SceneModel,
    SLatFlowModel,
    SLatGaussianDecoder,
    SLatMeshDecoder,
    save_model,
)
from datagen.sampling import predictions
from datagen.sampling.surfaces import read_scene_glb
from datagen.stages import sampling
from tests.stages.tiny_networks import FLOW, GAUSSIANS, MESH, MODEL, write_pair

BLOCKS = np.full((4, 64, 64, 64), -1.0, np.float32)
"""Logits of a scene and three instances: a block of 27 voxels, nothing, and one voxel."""
BLOCKS[1, 20:23, 20:23, 20:23] = 1.0
BLOCKS[3, 40, 40, 40] = 1.0
BLOCKS[0] = BLOCKS[1:].max(axis=0)
NO_PREVIEW = "--no-textured-preview"


@pytest.fixture
def flags(tmp_path, monkeypatch) -> list[str]:
    """Flags of a run on one image of three objects: a block, nothing, and one voxel."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    networks = {
        "ss": (SceneModel, MODEL),
        "flow": (SLatFlowModel, FLOW),
        "mesh": (SLatMeshDecoder, MESH),
        "gs": (SLatGaussianDecoder, GAUSSIANS),
    }
    for name, (cls, arguments) in networks.items():
        network = cls(**arguments)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        save_model(network, tmp_path / name, arguments)
    monkeypatch.setattr(sampling, "sample_scene", lambda *_, **__: BLOCKS)
    image, masks = write_pair(tmp_path, "room")
    words = ["infer", "--image", image, "--masks", masks, "--model", "ss", "--out", "result"]
    words += [
        "--steps",
        "2",
        "--device",
        "cpu",
        "--texture-px",
        "64",
        "--models",
        "structure",
        "latent",
    ]
    words += ["--slat-flow", "flow", "--slat-mesh-decoder", "mesh"]
    return words


def test_instances_with_voxels_come_out_textured_in_the_scenes_frame(flags, tmp_path):
    assert main([*flags, "--slat-gaussian-decoder", "gs", NO_PREVIEW]) == 0
    folder = tmp_path / "result" / "room"
    scene = trimesh.load_scene(folder / "scene.glb", process=False)
    assert sorted(scene.graph.nodes_geometry) == ["instance_00", "instance_02"]
    for index, low, high in ((0, 20, 23), (2, 40, 41)):
        name = f"instance_{index:02d}"
        alone = trimesh.load_scene(folder / f"{name}.glb", process=False)
        mesh = scene.geometry[name]
        np.testing.assert_array_equal(alone.geometry[name].vertices, mesh.vertices)
        assert mesh.visual.material.baseColorTexture.size == (64, 64)
        z_up = mesh.vertices[:, [0, 2, 1]] * [1, -1, 1]
        cell = 1 / 256  # a corner moves by half a cell at most, and one beyond is looked at
        assert z_up.min() >= low / 64 - 0.5 - 1.5 * cell
        assert z_up.max() <= high / 64 - 0.5 + 1.5 * cell
    assert (folder / "instance_00.ply").is_file() and (folder / "instance_02.ply").is_file()
    assert not (folder / "instance_01.glb").exists()
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["empty_instances"] == [1]
    assert sorted(meta["surfaces"]) == ["instance_00", "instance_02"]
    for name, surface in meta["surfaces"].items():
        assert surface["faces"] == len(scene.geometry[name].faces) <= surface["source_faces"] * 2
        assert surface["watertight"] in (True, False)
    assert sorted(read_scene_glb(folder / "scene.glb")) == [0, 2]


def test_images_are_encoded_once_for_both_stages(flags, monkeypatch):
    real, counted = SceneModel.encode_images, []

    def counting(self, images):
        counted.append(images.shape[1])
        return real(self, images)

    def logits(model, decoder, images, *_, tokens=None, **__):
        stack = torch.from_numpy(images.stack(slice(None)))[None]
        torch.testing.assert_close(tokens, real(model, stack)[0])
        return BLOCKS

    monkeypatch.setattr(SceneModel, "encode_images", counting)
    monkeypatch.setattr(sampling, "sample_scene", logits)
    assert main([*flags, NO_PREVIEW]) == 0
    assert counted == [4]  # the scene and three instances


def test_scene_whose_latent_model_finds_nothing_is_an_empty_file(flags, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "sample_scene", lambda *_, **__: np.full_like(BLOCKS, -1.0))
    assert main([*flags, NO_PREVIEW]) == 0
    assert read_scene_glb(tmp_path / "result" / "room" / "scene.glb") == {}
    meta = json.loads((tmp_path / "result" / "room" / "meta.json").read_text())
    assert meta["empty_instances"] == [0, 1, 2]


@pytest.mark.blender
def test_preview_shows_the_textured_scene_beside_the_input(flags, tmp_path):
    assert main([*flags, NO_PREVIEW]) == 0
    without = Image.open(tmp_path / "result" / "room" / "preview.png")
    assert main([*flags, "--overwrite"]) == 0
    image = Image.open(tmp_path / "result" / "room" / "preview.png")
    assert image.width == without.width + 384 + 16  # a panel more
    panel = np.asarray(image)[28:-16, -384 - 16 : -16].astype(int)
    assert (np.abs(panel - 250).max(axis=2) > 20).sum() > 200  # something stands there


def test_scene_is_not_lost_when_blender_cannot_draw_it(flags, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise RowError("Blender died")

    monkeypatch.setattr(predictions, "render_textured", broken)
    assert main(flags) == 0
    assert "the preview lacks the textured scene (Blender died)" in capsys.readouterr().err
    assert (tmp_path / "result" / "room" / "scene.glb").is_file()


def test_rerun_with_the_latent_model_is_not_mistaken_for_the_first(flags, capsys):
    first = [word for word in flags if word not in ("--models", "structure", "latent")]
    assert main(first) == 0
    assert main([*flags, NO_PREVIEW]) == 2
    assert "models = " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--slat-flow", "mesh", "holds a SLatMeshDecoder. Expected a SLatFlowModel"),
        ("--slat-mesh-decoder", "missing", "missing.json is not there"),
        ("--slat-flow", "half", "is for voxels at 32³"),
        ("--slat-flow", "wide", "takes image tokens of 48 channels"),
    ],
)
def test_networks_that_do_not_belong_together_are_refused(
    flags, flag, value, message, tmp_path, capsys
):
    for name, change in (("half", {"resolution": 32}), ("wide", {"cond_channels": 48})):
        save_model(SLatFlowModel(**FLOW | change), tmp_path / name, FLOW | change)
    assert main([*flags, NO_PREVIEW, flag, value]) == 2
    assert message in capsys.readouterr().err


def test_weights_without_their_json_are_refused_by_name(flags, tmp_path, capsys):
    (tmp_path / "flow.json").unlink()
    assert main(flags) == 2
    assert "flow.json is not there" in capsys.readouterr().err
