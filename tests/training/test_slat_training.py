"""The structured-latent model's samples, objective and training, on features that images show."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datagen.core.seeding import rng_for
from datagen.errors import DatasetError
from datagen.models import load_model
from datagen.models.structured_latent_model import StructuredLatentModel
from datagen.sampling.scenes import SamplerConfig
from datagen.shards import open_dataset
from datagen.shards.declared import LATENTS
from datagen.training import FlowMatching, SceneLoader, StreamConfig, TrainConfig, train_flow
from datagen.training.objectives.structured_latents.batches import make_slat_batch
from datagen.training.objectives.structured_latents.losses import SlatLosses
from datagen.training.objectives.structured_latents.objective import StructuredLatentObjective
from datagen.training.objectives.structured_latents.sampled import sampled_error
from datagen.training.objectives.structured_latents.samples import decode_slat_sample
from datagen.training.objectives.structured_latents.source import SlatSource
from datagen.training.objectives.structured_latents.statistics import feature_statistics
from tests.shards.tiny import write
from tests.training.slats import SIZE_PX, TINY, block, write_slats
from tests.training.tiny import read_log

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
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def slats(tmp_path_factory) -> Path:
    return write_slats(tmp_path_factory.mktemp("slats"), 8)


def source_of(root: Path) -> SlatSource:
    return SlatSource.open(open_dataset(root / "latents"), open_dataset(root / "renders"))


def samples_of(root: Path, count: int):
    stream = StreamConfig(size_px=SIZE_PX)
    return list(SceneLoader([source_of(root)], stream, decode_slat_sample, stop=count))


def train(folder: Path, root: Path, config: TrainConfig = CONFIG) -> StructuredLatentModel:
    objective = StructuredLatentObjective(config, TINY)
    stream = StreamConfig(size_px=SIZE_PX, seed=config.seed)
    loader = SceneLoader([source_of(root)], stream, objective.decode)
    return train_flow(loader, samples_of(root, 2), objective, folder)


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
    real, left = SlatLosses.forward, [5]

    def dying(self, *args):
        left[0] -= torch.is_grad_enabled()
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(SlatLosses, "forward", dying)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", slats)
    monkeypatch.setattr(SlatLosses, "forward", real)
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
    whole = make_slat_batch(samples, CONFIG, "train", 4, range(3))
    together = losses(*whole.inputs("cpu"))
    for index, sample in enumerate(samples):
        alone = make_slat_batch([sample], CONFIG, "train", 4, [index])
        loss = losses(*alone.inputs("cpu"))
        torch.testing.assert_close(loss, together[index : index + 1], rtol=1e-4, atol=1e-5)
        part = losses(*whole[index : index + 1].inputs("cpu"))
        torch.testing.assert_close(loss, part, rtol=1e-4, atol=1e-5)


def test_loss_of_a_fresh_network_is_that_of_a_velocity_of_zero(slats):
    model = StructuredLatentModel(**TINY, feature_channels=3)
    samples = samples_of(slats, 2)
    model.set_statistics(*feature_statistics(source_of(slats).sample_latents(8), 8))
    batch = make_slat_batch(samples, CONFIG, "train", 0, range(2))
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
    source = SlatSource.open(latents, inputs["renders"])
    with pytest.raises(DatasetError, match=r"row 1 \(layout 1, view 0\): it counts \[1, 2, 3\]"):
        list(SceneLoader([source], StreamConfig(size_px=SIZE_PX), decode_slat_sample, stop=8))
