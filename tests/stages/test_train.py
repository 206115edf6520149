"""``train``: the views it uses, what decides its identity, and the inputs it refuses."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.engine.stage import RunOptions, open_inputs
from datagen.errors import ConfigError, DatasetError
from datagen.executors.job import WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.models import SLatFlowModel, load_model
from datagen.shards import Folder
from datagen.stages.train import TrainFlow
from datagen.training import TrainConfig, objective_of
from datagen.training.objectives.structure.objective import StructureObjective
from datagen.training.objectives.structured_latents.objective import StructuredLatentObjective
from tests.training import slats
from tests.training.scenes import write_scenes
from tests.training.tiny import TINY

CONFIG = TrainConfig(max_steps=3, batch_size=2, instances_per_view=1, warmup_steps=1)


class TinyFlow(TrainFlow):
    """Trains the smallest network of the model's kind."""

    @property
    def objective(self):
        published = objective_of(self.config)
        kinds = {StructureObjective: TINY, StructuredLatentObjective: slats.TINY}
        return replace(published, size=kinds[type(published)])


@pytest.fixture
def root(tmp_path) -> Path:
    return write_scenes(tmp_path / "scenes", {0: 2, 1: 3, 2: 2}, noise=True)


@pytest.fixture
def objects(tmp_path) -> Path:
    """Scenes of one object each; scene and instance look the same to the model."""
    return write_scenes(tmp_path / "objects", {0: 1, 1: 1}, num_instances=1)


def run(stage: TrainFlow, root: Path) -> dict:
    return stage.run(
        Folder.at(root), LocalExecutor(WorkerSettings(device="cpu")), RunOptions()
    ).manifest


def losses(root: Path) -> list[float]:
    lines = (root / "model" / "log.jsonl").read_text().splitlines()
    return [record["loss"] for record in map(json.loads, lines) if "loss" in record]


def test_views_of_held_out_scenes_are_not_trained_on(root):
    counts = run(TinyFlow(config=CONFIG, val_fraction=0.3), root)["counts"]
    assert counts["training_views"] + counts["validation_views"] == 7
    assert counts["validation_views"] in (2, 3, 4, 5)


def test_workspace_mixed_in_is_known_by_its_content_not_its_place(root, objects, tmp_path):
    stage = TinyFlow(config=CONFIG, also=(str(objects),), mix_weights=(1.0, 0.5))
    manifest = run(stage, root)
    assert manifest["counts"]["training_views"] > 7 - 3
    assert "also" not in manifest["fields"] and manifest["fields"]["mix_weights"] == [1.0, 0.5]
    moved = objects.rename(tmp_path / "moved")
    again = TinyFlow(config=CONFIG, also=(str(moved),), mix_weights=(1.0, 0.5))
    assert run(again, root)["fingerprint"] == manifest["fingerprint"]
    with pytest.raises(DatasetError, match=r"other also_0 \(its input\)"):
        run(TinyFlow(config=CONFIG, mix_weights=(1.0,)), root)


def test_mixing_changes_what_is_trained_on(root, objects, tmp_path):
    run(TinyFlow(config=CONFIG), root)
    alone = losses(root)
    mixed = TinyFlow(config=CONFIG, also=(str(objects),))
    mixed.run(
        Folder.at(root), LocalExecutor(WorkerSettings(device="cpu")), RunOptions(overwrite=True)
    )
    assert losses(root) != alone


def test_workers_and_cache_are_no_part_of_the_identity_and_change_no_loss(root):
    run(TinyFlow(config=CONFIG, cache_gib=0.0, loader_workers=1), root)
    first = losses(root)
    stage = TinyFlow(config=CONFIG)
    inputs = open_inputs(stage, Folder.at(root))
    other = TinyFlow(config=CONFIG, cache_gib=0.0, loader_workers=1)
    assert stage.identity(inputs) == other.identity(inputs)
    stage.run(
        Folder.at(root), LocalExecutor(WorkerSettings(device="cpu")), RunOptions(overwrite=True)
    )
    assert losses(root) == first


def test_workspace_with_latents_of_another_encoder_is_refused(root, objects):
    path = objects / "latents" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"]["encoder"] = "another"
    path.write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match=r"has encoder another, and .* has None"):
        run(TinyFlow(config=CONFIG, also=(str(objects),)), root)


def test_workspace_that_is_not_there_is_named(root, tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere/latents does not exist"):
        run(TinyFlow(config=CONFIG, also=(str(tmp_path / "nowhere"),)), root)


def test_latents_encoded_without_latents_are_refused_with_the_command(root):
    path = root / "latents" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["fields"]["store"] = "occupancy"
    path.write_text(json.dumps(manifest))
    with pytest.raises(
        DatasetError, match=r"train: .* made with --store occupancy. Expected latents too"
    ):
        run(TinyFlow(config=CONFIG), root)


def test_first_weights_are_known_by_their_content(root, tmp_path):
    run(TinyFlow(config=CONFIG), root)
    trained = (root / "model").rename(tmp_path / "trained")
    stage = TinyFlow(config=CONFIG, init=str(trained / "model"))
    manifest = run(stage, root)
    assert len(manifest["inputs"]["init"]) == 64 and "init" not in manifest["fields"]
    moved = trained.rename(tmp_path / "moved")
    again = TinyFlow(config=CONFIG, init=str(moved / "model"))
    assert run(again, root)["fingerprint"] == manifest["fingerprint"]
    with pytest.raises(DatasetError, match=r"init"):
        run(TinyFlow(config=CONFIG), root)


def test_finished_training_keeps_the_best_model_and_no_state(root):
    manifest = run(TinyFlow(config=CONFIG, val_fraction=0.3), root)
    assert manifest["files"].keys() == {
        "best.json",
        "best.safetensors",
        "model.json",
        "model.safetensors",
    }
    assert not (root / "model" / "checkpoints").exists()


@pytest.mark.ray
def test_two_workers_train_what_one_does(root, tmp_path, caplog):
    """Ray starts the processes, which build the tiny model from their arguments."""
    from datagen.executors.ray import RayExecutor

    config = replace(CONFIG, precision="float32", max_steps=2)
    run(TinyFlow(config=config), root)
    other = tmp_path / "other"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns("model"))
    executor = RayExecutor(2, WorkerSettings(device="cpu"))
    caplog.set_level(logging.INFO, "datagen")
    shown = len(caplog.messages)
    try:
        TinyFlow(config=config).run(Folder.at(other), executor, RunOptions())
    finally:
        executor.close()
    assert losses(other) == pytest.approx(losses(root), rel=1e-5)
    assert "step 2 of 2" in (other / "model" / "logs" / "train-0.log").read_text()
    assert [m for m in caplog.messages[shown:] if m.startswith("train: step 2 of 2")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mix_weights": (1.0, 0.5)}, "got 2 for this workspace and 0 in --also"),
        ({"loader_workers": -1}, "loader_workers and cache_gib must be at least 0"),
        ({"val_fraction": 1.0}, "val_fraction must lie in"),
        ({"config": TrainConfig(image_encoder="x")}, "--model small trains its own encoder"),
    ],
)
def test_fields_that_cannot_work_are_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        TrainFlow(**fields)


def test_latent_model_is_trained_beside_the_structure_model_on_stored_features(tmp_path):
    root = slats.write_slats(tmp_path / "slats", 6)
    fields = {**vars(CONFIG), "model": "slat-small", "sample_every": 3, "sampled_views": 1}
    stage = TinyFlow(config=TrainConfig(**fields), val_fraction=0.3)  # in bfloat16, the default
    made = stage.run(Folder.at(root), LocalExecutor(WorkerSettings(device="cpu")), RunOptions())
    assert made.folder.path == root / "slat_model"
    assert {"model.json", "model.safetensors"} <= made.manifest["files"].keys()
    assert isinstance(load_model(root / "slat_model" / "model", device="cpu").flow, SLatFlowModel)
    log = (root / "slat_model" / "log.jsonl").read_text()
    assert "sampled_error" in log and "NaN" not in log


def test_latent_model_without_stored_features_names_the_command(root):
    stage = TinyFlow(config=TrainConfig(**{**vars(CONFIG), "model": "slat-small"}))
    with pytest.raises(DatasetError, match="--store latents occupancy slat_features --overwrite"):
        run(stage, root)


def test_embedded_weights_are_refused_for_latents_that_they_do_not_know(root):
    with pytest.raises(ConfigError, match=r"--init small: .* encoded by .*leave --init out"):
        run(TinyFlow(config=replace(CONFIG, model="iscene-L"), init="small"), root)
