"""The structured-latent model's samples, objective and training, on features that images show."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datagen.core.seeding import rng_for
from datagen.errors import DatasetError
from datagen.models import load_model
from datagen.models.structured_latent_model import SLAT_ARGS, StructuredLatentModel
from datagen.sampling.scenes import SamplerConfig
from datagen.shards import open_dataset
from datagen.shards.declared import LATENTS, RENDERS
from datagen.training import (
    FlowMatching,
    SceneLoader,
    StreamConfig,
    TrainConfig,
    open_source,
    state,
    train_flow,
)
from datagen.training.objectives.structured_latent_samples import SlatSource, make_slat_batch
from datagen.training.objectives.structured_latents import (
    SlatLosses,
    feature_statistics,
    sampled_error,
)
from tests.shards.tiny import png, write

SIZE_PX = 32
TINY = {
    "flow": {
        "resolution": 64,
        "in_channels": 8,
        "out_channels": 8,
        "model_channels": 32,
        "cond_channels": 16,
        "num_blocks": 1,
        "num_heads": 2,
        "io_block_channels": [16],
        "qk_rms_norm": True,
    },
    "image_encoder": {"size_px": SIZE_PX, "channels": 16, "num_blocks": 1, "num_heads": 2},
}
CONFIG = TrainConfig(
    model="slat-small",
    max_steps=6,
    batch_size=2,
    instances_per_view=2,
    warmup_steps=2,
    checkpoint_every=2,
    validate_every=3,
    sample_every=0,
    precision="float32",
    seed=5,
)


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
    monkeypatch.setitem(SLAT_ARGS, "slat-small", TINY)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_slats(root: Path, num_views: int, channels: int = 3) -> Path:
    """Write views of two bars: what is seen of each is one colour, and so are its features."""
    renders, latents = [], []
    for layout_id in range(num_views):
        rng = rng_for(0, "slats", layout_id)
        colors = rng.integers(0, 256, (2, 3))
        instance_map = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
        instance_map[4:28, 4:14], instance_map[4:28, 18:28] = 1, 2
        palette = np.concatenate([[[0, 0, 0]], colors])
        rgba = np.dstack([palette[instance_map], 255 * (instance_map > 0)]).astype(np.uint8)
        keys = {"layout_id": layout_id, "view_index": 0}
        renders.append(
            dict.fromkeys(RENDERS.schema.names)
            | keys
            | {"kept": True, "rgb": png(rgba), "instance_map": png(instance_map)}
            | {"world_to_camera": np.eye(4), "intrinsics": np.eye(3)}
        )
        bars = [block(layout_id + 3), block(layout_id + 4)]
        coords = np.concatenate([*bars, *bars]).astype(np.uint8)  # the scene's first
        own = np.repeat(colors / 255, [len(bar) for bar in bars], axis=0)
        features = np.concatenate([own, own])[:, np.arange(channels) % 3]
        counts = [sum(map(len, bars)), *map(len, bars)]
        latents.append(
            dict.fromkeys(LATENTS.schema.names)
            | keys
            | {"world_to_canonical": np.eye(4), "num_instances": 2, "slat_counts": counts}
            | {"slat_coords": coords, "slat_features": features.astype(np.float16).ravel()}
            | {"slat_seen": np.ones(len(coords), np.uint16)}
        )
    made = write(root, "render", "renders", RENDERS.schema, renders, {}, scenes_per_shard=4)
    schema = LATENTS.full_schema
    inputs = {"renders": made}
    store = {"store": "latents,slat_features"}
    write(root, "encode", "latents", schema, latents, inputs, scenes_per_shard=4, fields=store)
    return root


def block(size: int) -> np.ndarray:
    """Return the voxels of a bar one voxel thick, 2·size of them."""
    return np.argwhere(np.ones((2, size % 7 + 3, 1)))


@pytest.fixture(scope="module")
def slats(tmp_path_factory) -> Path:
    return write_slats(tmp_path_factory.mktemp("slats"), 8)


def source_of(root: Path) -> SlatSource:
    latents, renders = open_dataset(root / "latents"), open_dataset(root / "renders")
    return open_source(latents, renders, SlatSource)


def samples_of(root: Path, count: int):
    return list(SceneLoader([source_of(root)], StreamConfig(size_px=SIZE_PX), stop=count))


def train(folder: Path, root: Path, config: TrainConfig = CONFIG) -> StructuredLatentModel:
    loader = SceneLoader([source_of(root)], StreamConfig(size_px=SIZE_PX, seed=config.seed))
    return train_flow(loader, samples_of(root, 2), config, folder)


def read_log(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [record for record in lines if "data_wait" not in record]


def test_sample_holds_each_instances_voxels_and_features(slats):
    for sample in samples_of(slats, 8):
        assert [len(coords) for coords in sample.coords] == [
            len(block(sample.layout_id + 3)),
            len(block(sample.layout_id + 4)),
        ]
        colors = rng_for(0, "slats", sample.layout_id).integers(0, 256, (2, 3)) / 255
        for features, color in zip(sample.features, colors, strict=True):
            np.testing.assert_allclose(features, np.tile(color, (len(features), 1)), atol=1e-3)
        assert sample.instance_images.shape == (2, SIZE_PX, SIZE_PX, 3)


def test_training_lowers_the_loss_and_samples_come_closer_than_noise(tmp_path, slats):
    fields = {"max_steps": 150, "lr": 4e-3, "warmup_steps": 10, "sample_every": 150}
    fields |= {"checkpoint_every": 1000, "validate_every": 1000, "sampled_views": 2}
    config = TrainConfig(**{**vars(CONFIG), **fields, "flow": FlowMatching()})
    model = train(tmp_path, slats, config)
    log = read_log(tmp_path)
    losses = [record["loss"] for record in log if "loss" in record]
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:10])
    [logged] = [record["sampled_error"] for record in log if "sampled_error" in record]
    samples = samples_of(slats, 4)
    trained = sampled_error(model, samples, SamplerConfig(steps=10))
    untrained = StructuredLatentModel(**TINY, feature_channels=3)
    untrained.set_statistics(model.feature_mean, model.feature_basis, model.latent_std)
    noise = sampled_error(untrained, samples, SamplerConfig(steps=10))
    assert noise > 1.5  # a fresh network gives no velocity: what is left is the noise itself
    assert trained < 0.6 and logged < 0.6


def test_run_that_died_and_went_on_equals_one_that_did_not(tmp_path, slats, monkeypatch):
    whole = train(tmp_path / "whole", slats)
    real, left = state.SlatLosses.forward, [5]

    def dying(self, *args):
        left[0] -= torch.is_grad_enabled()
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(state.SlatLosses, "forward", dying)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", slats)
    monkeypatch.setattr(state.SlatLosses, "forward", real)
    resumed = train(tmp_path / "broken", slats)
    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
    loaded = load_model(tmp_path / "broken" / "model", device="cpu")
    torch.testing.assert_close(loaded.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_padding_and_the_other_views_of_a_batch_change_no_loss(slats):
    torch.manual_seed(0)
    model = StructuredLatentModel(**TINY, feature_channels=3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    samples = samples_of(slats, 3)
    losses = SlatLosses(FlowMatching(), model)
    whole = make_slat_batch(samples, CONFIG, 8, "train", 4, range(3))
    together = losses(*whole.inputs("cpu"))
    for index, sample in enumerate(samples):
        alone = make_slat_batch([sample], CONFIG, 8, "train", 4, [index])
        loss = losses(*alone.inputs("cpu"))
        torch.testing.assert_close(loss, together[index : index + 1], rtol=1e-4, atol=1e-5)
        part = losses(*whole[index : index + 1].inputs("cpu"))
        torch.testing.assert_close(loss, part, rtol=1e-4, atol=1e-5)


def test_loss_of_a_fresh_network_is_that_of_a_velocity_of_zero(slats):
    model = StructuredLatentModel(**TINY, feature_channels=3)
    samples = samples_of(slats, 2)
    model.set_statistics(*feature_statistics(source_of(slats).sample_latents(8), 8))
    batch = make_slat_batch(samples, CONFIG, 8, "train", 0, range(2))
    loss = SlatLosses(FlowMatching(), model)(*batch.inputs("cpu"))
    for view in range(2):
        for slot in range(2):
            count = int(batch.counts[view, slot])
            x_0 = model.normalize(batch.latents[view, slot, :count])
            target = (1 - 1e-5) * batch.drawn.noise[view, slot, :count] - x_0
            torch.testing.assert_close(loss[view, slot], target.square().mean())


def test_statistics_are_the_principal_directions_of_the_features():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(500, 12)) @ rng.normal(size=(12, 12)) + 3
    views = [part.astype(np.float16) for part in np.split(mixed, [100, 350])]
    mean, basis, std = feature_statistics(views, 8)
    centred = np.concatenate(views).astype(np.float64)
    np.testing.assert_allclose(mean, centred.mean(axis=0), atol=1e-5)
    _, singular, rows = np.linalg.svd(centred - centred.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(std, singular[:8] / np.sqrt(len(centred)), rtol=1e-4)
    np.testing.assert_allclose(np.abs((rows[:8] * basis.numpy().T).sum(axis=1)), 1, atol=1e-4)


def test_features_of_few_channels_come_back_exactly_and_leave_the_rest_zero():
    features = torch.from_numpy(np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32))
    model = StructuredLatentModel(**TINY, feature_channels=3)
    model.set_statistics(*feature_statistics([features.half().numpy()], 8))
    latents = model.normalize(features)
    torch.testing.assert_close(model.denormalize(latents), features, atol=1e-5, rtol=1e-5)
    assert (latents[:, 3:] == 0).all()
    torch.testing.assert_close(latents[:, :3].std(dim=0), torch.ones(3), rtol=0.05, atol=0.05)


def test_features_that_do_not_fit_their_voxels_name_shard_and_row(tmp_path, slats):
    schema = LATENTS.full_schema
    rows = list(open_dataset(slats / "latents"))
    rows[1]["slat_counts"] = [1, 2, 3]
    inputs = {"renders": open_dataset(slats / "renders")}
    write(tmp_path, "encode", "latents", schema, rows, inputs, scenes_per_shard=4)
    latents = open_dataset(tmp_path / "latents")
    source = open_source(latents, inputs["renders"], SlatSource)
    with pytest.raises(DatasetError, match=r"row 1 \(layout 1, view 0\): it counts \[1, 2, 3\]"):
        list(SceneLoader([source], StreamConfig(size_px=SIZE_PX), stop=8))
