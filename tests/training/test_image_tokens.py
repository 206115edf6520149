"""Image tokens that are stored: the same training as with the encoder along."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datagen.errors import DatasetError
from datagen.models.dinov2 import DinoV2, load_dinov2
from datagen.shards import Folder
from datagen.training import SceneLoader, SceneSource, StreamConfig, TrainConfig, train_flow
from datagen.training.data.image_tokens import TokenFile, view_tokens
from datagen.training.objectives.structure.objective import StructureObjective
from datagen.views.passes import decode_view
from tests.published import dinov2_weights
from tests.training.scenes import source_of, write_scenes
from tests.training.tiny import CONFIG, TINY

VIEWS = {0: 1, 1: 2, 2: 1}
INSTANCES = 2


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("dinov2") / "dinov2.pth"
    torch.save(dinov2_weights(), path)
    return path


@pytest.fixture(scope="module")
def encoder(weights) -> DinoV2:
    return load_dinov2(str(weights), "cpu")


@pytest.fixture
def source(tmp_path, encoder) -> SceneSource:
    """Views whose tokens are stored."""
    source = source_of(write_scenes(tmp_path / "scenes", VIEWS, noise=True))
    for row in source.renders:
        if row["kept"]:
            tokens = view_tokens(encoder, *decode_view(row), INSTANCES)
            place = (source.latents.folder, row["layout_id"], row["view_index"])
            TokenFile.of(*place).write(tokens)
    return source


def losses(source: SceneSource, encoder: DinoV2, folder: Path, fields: dict) -> list[float]:
    stream = StreamConfig(size_px=encoder.size_px, resize="lanczos4")
    size = {"flow": {**TINY["flow"], "cond_channels": encoder.channels}, "image_encoder": {}}
    objective = StructureObjective(TrainConfig(**fields), size)
    held_out = list(SceneLoader([source], stream, objective.decode, stop=2))
    loader = SceneLoader([source], stream, objective.decode)
    train_flow(loader, held_out, objective, folder, image_encoder=encoder)
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [r[name] for r in records for name in ("loss", "val_loss") if name in r]


def test_training_on_stored_tokens_has_the_losses_of_encoding_along(
    tmp_path, source, encoder, weights, monkeypatch
):
    fields = {**vars(CONFIG), "model": "iscene-L", "image_encoder": str(weights), "max_steps": 3}
    fields |= {"precision": "float32", "lr": 1e-2}
    along = losses(source, encoder, tmp_path / "along", fields)
    monkeypatch.setattr(DinoV2, "__call__", None)  # whoever runs it fails
    stored = losses(replace(source, use_tokens=True), encoder, tmp_path / "stored", fields)
    assert len(along) == len(stored) == 4
    # Tokens have standard deviation 1 and are rounded to 11 bits.
    assert stored == pytest.approx(along, rel=1e-3)
    assert stored != along


def test_requested_images_are_read_in_the_order_of_the_request(tmp_path):
    tokens = np.arange(4 * 3 * 5, dtype=np.float32).reshape(4, 3, 5)
    file = TokenFile.of(Folder.at(tmp_path), 7, 2)
    file.write(tokens)
    assert (tmp_path / "image_tokens" / "7_2.npy").is_file()
    np.testing.assert_array_equal(file.read([0, 3, 1, 1]), tokens[[0, 3, 1, 1]])


@pytest.mark.parametrize("damage", ["missing", "cut", "another image"])
def test_tokens_that_are_not_there_are_named_with_the_command(tmp_path, damage):
    file = TokenFile.of(Folder.at(tmp_path), 7, 2)
    path = tmp_path / "image_tokens" / "7_2.npy"
    file.write(np.zeros((2, 3, 5)))
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"image_tokens/7_2\.npy: cannot be read.*datagen enc"):
        file.read([0, 2 if damage == "another image" else 1])


def test_fingerprint_of_an_encoder_is_that_of_its_weights_wherever_they_lie(
    tmp_path, weights, encoder
):
    moved = tmp_path / "moved.pth"
    moved.write_bytes(weights.read_bytes())
    assert load_dinov2(str(moved), "cpu").fingerprint() == encoder.fingerprint()
    tensors = dinov2_weights()
    tensors["cls_token"][0, 0, 0] += 1
    torch.save(tensors, moved)
    assert load_dinov2(str(moved), "cpu").fingerprint() != encoder.fingerprint()
