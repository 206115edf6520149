"""Training: its log, its states, resuming to the same losses, and what ends it."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datagen.errors import ConfigError, DatasetError, StageError
from datagen.models import load_model, load_scene_model
from datagen.models.dinov2 import load_dinov2
from datagen.models.small_autoencoder import SmallSparseStructureDecoder
from datagen.training import SceneLoader, StreamConfig, TrainConfig, clipping, train_flow
from datagen.training.config import learning_rate
from datagen.training.objectives.structure import losses
from datagen.training.objectives.structure.objective import StructureObjective
from datagen.training.objectives.structure.sampled import SampledView, sampled_iou
from tests.published import dinov2_weights
from tests.training.scenes import source_of, write_scenes
from tests.training.tiny import CONFIG, TINY, read_log, states, train

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), {0: 1, 1: 2, 2: 1}, noise=True)


def test_training_writes_a_model_that_loads_and_a_log_of_every_step(tmp_path, scenes):
    model = train(tmp_path, scenes)
    loaded = load_model(tmp_path / "model", device="cpu")
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    records = read_log(tmp_path)
    assert [r["step"] for r in records if "loss" in r] == list(range(1, 10))
    assert [r["step"] for r in records if "val_loss" in r] == [4, 8, 9]
    assert list((tmp_path / "tensorboard").iterdir())


def test_line_of_a_step_splits_its_loss_by_slot_and_by_time(tmp_path, scenes):
    train(tmp_path, scenes)
    for record in read_log(tmp_path):
        if "loss" in record:
            # Two instances a scene: three grids, equally weighted.
            mean = (record["loss_scene"] + 2 * record["loss_instances"]) / 3
            assert record["loss"] == pytest.approx(mean, rel=1e-5)
            by_time = [value for name, value in record.items() if name.startswith("loss_t_")]
            assert 1 <= len(by_time) <= 2
            assert min(by_time) <= record["loss"] * (1 + 1e-5)
            assert max(by_time) >= record["loss"] * (1 - 1e-5)
            assert {"grad_norm", "lr"} <= record.keys()


def test_speed_is_logged_beside_the_losses(tmp_path, scenes):
    train(tmp_path, scenes)
    lines = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    [speed] = [record for record in lines if "data_wait" in record]
    assert speed["step"] == 9 and 0 <= speed["data_wait"] <= 1
    assert speed["views_per_s"] == pytest.approx(2 * speed["steps_per_s"])
    assert speed["memory_gib"] > 0


def test_last_states_and_the_best_model_are_kept(tmp_path, scenes):
    model = train(tmp_path, scenes)
    assert states(tmp_path) == ["step-00000008.pt", "step-00000009.pt"]
    found = {r["step"]: r["val_loss"] for r in read_log(tmp_path) if "val_loss" in r}
    best = load_model(tmp_path / "best", device="cpu").state_dict()
    is_last = min(found, key=found.get) == 9
    same = all(torch.equal(value, best[name]) for name, value in model.state_dict().items())
    assert same == is_last


def test_state_that_cannot_be_read_gives_way_to_the_one_before(tmp_path, scenes, caplog):
    train(tmp_path / "whole", scenes)
    train(tmp_path / "broken", scenes)
    newest = tmp_path / "broken" / "checkpoints" / "step-00000009.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    train(tmp_path / "broken", scenes)
    assert "step-00000009.pt cannot be read" in caplog.text
    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")


def test_states_that_can_none_be_read_are_an_error(tmp_path, scenes):
    train(tmp_path, scenes)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match="none of 2 states can be read"):
        train(tmp_path, scenes)


ADAPTIVE = TrainConfig(**{**vars(CONFIG), "adaptive_clip": True, "grad_clip": 0.05})


@pytest.mark.parametrize(("died_in_step", "config"), [(2, CONFIG), (6, ADAPTIVE), (8, CONFIG)])
def test_run_that_died_and_went_on_equals_one_that_did_not(
    tmp_path, scenes, monkeypatch, died_in_step, config
):
    monkeypatch.setattr(clipping, "BUFFER", 3)
    whole = train(tmp_path / "whole", scenes, config)
    real = losses.flow_losses
    calls = {"left": died_in_step}

    def dying(*args):
        calls["left"] -= torch.is_grad_enabled()
        if calls["left"] < 0:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(losses, "flow_losses", dying)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", scenes, config)
    assert not (tmp_path / "broken" / "model.json").exists()
    monkeypatch.setattr(losses, "flow_losses", real)
    resumed = train(tmp_path / "broken", scenes, config)

    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_half_written_log_line_of_a_killed_run_is_dropped(tmp_path, scenes):
    train(tmp_path / "whole", scenes)
    train(tmp_path / "broken", scenes)
    # As if the run had died after the state of step 8, in the middle of a line.
    log = tmp_path / "broken" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 10, "lo')
    train(tmp_path / "broken", scenes)
    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")


def test_folder_of_other_settings_is_refused_with_the_names_that_differ(tmp_path, scenes):
    train(tmp_path, scenes)
    other = TrainConfig(**{**vars(CONFIG), "lr": 1e-4, "seed": 6})
    with pytest.raises(DatasetError, match="another lr, seed"):
        train(tmp_path, scenes, other)


def broken_in(steps: set[int]):
    """Return a ``flow_losses`` that gives NaN in some training steps, counted from 1."""
    real, count = losses.flow_losses, itertools.count(1)

    def broken(*args):
        made = real(*args)
        return made * np.nan if torch.is_grad_enabled() and next(count) in steps else made

    return broken


def test_step_without_a_finite_loss_is_skipped_and_counted(tmp_path, scenes, monkeypatch):
    monkeypatch.setattr(losses, "flow_losses", broken_in({2, 3, 6}))
    model = train(tmp_path, scenes)
    records = read_log(tmp_path)
    assert {r["step"]: r["skipped_steps"] for r in records if "skipped_steps" in r} == {
        2: 1,
        3: 2,
        6: 3,
    }
    assert [r["step"] for r in records if "loss" in r] == [1, 4, 5, 7, 8, 9]
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_third_bad_step_in_a_row_ends_the_run_and_leaves_the_batch(tmp_path, scenes, monkeypatch):
    monkeypatch.setattr(losses, "flow_losses", broken_in({2, 4, 5, 6}))
    with pytest.raises(StageError, match="steps 4 to 6 have no finite loss"):
        train(tmp_path, scenes)
    assert not (tmp_path / "model.json").exists()
    batch = torch.load(tmp_path / "bad-batch-0.pt", weights_only=True)
    assert batch["step"] == 6 and len(batch["views"]) == 2
    assert batch["latents"].shape == batch["noise"].shape == (2, 3, 8, 16, 16, 16)


def test_micro_batches_and_recomputed_blocks_train_the_same(tmp_path, scenes):
    exact = {**vars(CONFIG), "precision": "float32", "batch_size": 4, "max_steps": 4}
    whole = train(tmp_path / "whole", scenes, TrainConfig(**exact))
    exact |= {"micro_batch_size": 1, "activation_checkpointing": True}
    cut = train(tmp_path / "cut", scenes, TrainConfig(**exact))
    torch.testing.assert_close(cut.state_dict(), whole.state_dict(), rtol=1e-4, atol=1e-5)


def test_gpu_out_of_memory_goes_on_with_the_batch_that_fits_and_names_it(
    tmp_path, scenes, monkeypatch, caplog
):
    exact = TrainConfig(**{**vars(CONFIG), "precision": "float32", "batch_size": 4, "max_steps": 3})
    train(tmp_path / "whole", scenes, exact)
    monkeypatch.setattr(losses, "flow_losses", too_large_above(1))
    train(tmp_path / "small", scenes, exact)
    assert "--micro-batch-size 1 avoids this" in caplog.text
    for ours, theirs in zip(
        read_log(tmp_path / "small"), read_log(tmp_path / "whole"), strict=True
    ):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)


def test_gpu_out_of_memory_with_one_view_is_an_error(tmp_path, scenes, monkeypatch):
    monkeypatch.setattr(losses, "flow_losses", too_large_above(0))
    with pytest.raises(StageError, match="GPU out of memory with one view at once"):
        train(tmp_path, scenes)


def too_large_above(num_views: int):
    real = losses.flow_losses

    def limited(flow, model, x_0, *rest):
        if len(x_0) > num_views:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(flow, model, x_0, *rest)

    return limited


def test_held_out_views_are_sampled_scored_and_drawn(tmp_path, scenes):
    decoder = SmallSparseStructureDecoder(channels=8, num_blocks=1)
    config = TrainConfig(**{**vars(CONFIG), "sample_every": 6, "sampled_views": 1})
    train(tmp_path, scenes, config, decoder=decoder)
    records = [r for r in read_log(tmp_path) if "sampled_iou_instances" in r]
    assert [r["step"] for r in records] == [6, 9]
    assert all(0 <= r["sampled_iou_scene"] <= 1 for r in records)
    assert len(list((tmp_path / "previews").glob("*_step-00000006.png"))) == 1


def test_iou_counts_each_grid_and_is_one_where_both_are_empty():
    true, predicted = np.zeros((2, 3, 4, 4, 4), bool)
    true[0, 0], predicted[0, 0, 0] = True, True  # 4 of 16, the rest 0
    true[1, 0, 0, 0] = predicted[1, 0, 0, 1] = True  # apart
    view = SampledView(None, predicted=predicted, true=true)
    assert view.iou_G.tolist() == [0.25, 0.0, 1.0]
    assert sampled_iou([view]) == {"sampled_iou_instances": 0.5, "sampled_iou_scene": 0.25}


def test_state_of_a_run_on_other_data_is_refused(tmp_path, scenes):
    train(tmp_path / "model", scenes)
    others = write_scenes(tmp_path / "others", {0: 2})
    with pytest.raises(DatasetError, match="with another views"):
        train(tmp_path / "model", others)


def test_worker_processes_change_no_loss(tmp_path, scenes):
    train(tmp_path / "none", scenes)
    train(tmp_path / "two", scenes, num_workers=2)
    assert read_log(tmp_path / "none") == read_log(tmp_path / "two")


def test_training_lowers_the_loss_on_one_view(tmp_path):
    config = TrainConfig(
        max_steps=80,
        batch_size=4,
        instances_per_view=2,
        lr=3e-3,
        warmup_steps=10,
        precision="float32",
        checkpoint_every=1000,
        validate_every=1000,
    )
    scenes = write_scenes(tmp_path / "scenes", {0: 1}, noise=True)
    train(tmp_path, scenes, config)
    found = [r["loss"] for r in read_log(tmp_path) if "loss" in r]
    assert np.mean(found[-20:]) < 0.8 * np.mean(found[:10])


def test_learning_rate_rises_then_stays_or_falls_to_zero():
    constant = TrainConfig(max_steps=100, warmup_steps=10, lr=1.0, lr_schedule="constant")
    cosine = TrainConfig(max_steps=100, warmup_steps=10, lr=1.0, lr_schedule="cosine")
    assert learning_rate(constant, 4) == pytest.approx(0.5)
    assert learning_rate(constant, 99) == 1.0
    assert learning_rate(cosine, 50) == pytest.approx(0.5)
    assert learning_rate(cosine, 99) < 1e-3


def test_frozen_image_encoder_conditions_a_training_and_stays_as_it_is(tmp_path, scenes):
    pytest.importorskip("transformers")
    path = tmp_path / "dinov2.pth"
    torch.save(dinov2_weights(), path)
    encoder = load_dinov2(str(path), "cpu")
    tiny = {"flow": {**TINY["flow"], "cond_channels": encoder.channels}, "image_encoder": {}}
    fields = {**vars(CONFIG), "model": "iscene-L", "image_encoder": str(path), "max_steps": 3}
    source, stream = source_of(scenes), StreamConfig(size_px=encoder.size_px, resize="lanczos4")
    objective = StructureObjective(TrainConfig(**fields), tiny)
    loader = SceneLoader([source], stream, objective.decode)
    folder = tmp_path / "model"
    model = train_flow(loader, [], objective, folder, image_encoder=encoder)
    assert not any(name.startswith("image_encoder") for name in model.state_dict())
    loaded = load_scene_model(folder / "model", device="cpu")
    images = torch.zeros(1, 2, encoder.size_px, encoder.size_px, 3, dtype=torch.uint8)
    assert torch.equal(loaded.encode_images(images), encoder(images))

    narrow = replace(objective, size={**tiny, "flow": {**tiny["flow"], "cond_channels": 5}})
    with pytest.raises(ConfigError, match="channels, and --model iscene-L takes 5"):
        train_flow(loader, [], narrow, folder, image_encoder=encoder)


@pytest.mark.slow
def test_compiled_blocks_train_as_plain_ones(tmp_path, scenes):
    """Needs a C++ compiler, as torch.compile does on a CPU."""
    plain = replace(CONFIG, max_steps=3, precision="float32")
    train(tmp_path / "plain", scenes, plain)
    train(tmp_path / "compiled", scenes, replace(plain, compile_blocks=True))
    first, second = (
        [record["loss"] for record in read_log(tmp_path / name) if "loss" in record]
        for name in ("plain", "compiled")
    )
    assert second == pytest.approx(first, rel=1e-4)
