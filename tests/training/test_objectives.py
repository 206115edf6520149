"""Everything that depends on the kind of model is its objective's, and found by its name."""

import ast
import pickle
from pathlib import Path

import pytest
import torch

import datagen.training
from datagen.errors import ConfigError
from datagen.models import MODEL_ARGS
from datagen.models.structured_latent_model import SLAT_ARGS
from datagen.training import ISCENE_L, TrainConfig, objective_of
from datagen.training.distributed import Ranks
from datagen.training.objectives.structure.objective import StructureObjective
from datagen.training.objectives.structured_latents.objective import StructuredLatentObjective
from datagen.training.state import TrainState
from tests.training.scenes import source_of, write_scenes
from tests.training.tiny import CONFIG, TINY

PACKAGE = Path(datagen.training.__file__).parent


@pytest.mark.parametrize(
    ("config", "kind", "size", "folder"),
    [
        (TrainConfig(), StructureObjective, MODEL_ARGS["small"], "model"),
        (ISCENE_L, StructureObjective, MODEL_ARGS["iscene-L"], "model"),
        (
            TrainConfig(model="slat-small"),
            StructuredLatentObjective,
            SLAT_ARGS["slat-small"],
            "slat_model",
        ),
    ],
)
def test_name_of_the_model_gives_its_objective_with_the_published_size(config, kind, size, folder):
    objective = objective_of(config)
    assert type(objective) is kind and objective.size == size and objective.table.folder == folder
    assert objective.image_size_px == size["image_encoder"]["size_px"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scene_context_blocks": 5}, "scene_context_blocks is 5. Expected 0 to 4"),
        ({"scene_context_blocks": -1}, "scene_context_blocks is -1"),
        ({"scene_context_blocks": 1, "model": "slat-small"}, "Expected none with --model slat"),
        ({"image_encoder": "dinov2_vitl14_reg"}, "--model small trains its own encoder"),
        ({"activation_checkpointing": True, "model": "slat-small"}, "does not support it"),
    ],
)
def test_what_a_kind_of_model_cannot_do_is_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        objective_of(TrainConfig(**fields))


def test_any_size_can_be_given_and_stands_in_the_networks_file():
    objective = StructureObjective(CONFIG, TINY)
    args = objective.network_args()
    assert args == TINY
    network = objective.build_network(args)
    assert network.flow.blocks[0].norm2.normalized_shape == (16,) and len(network.flow.blocks) == 2


def test_decoding_reaches_worker_processes_and_makes_the_same_sample(tmp_path):
    [view] = source_of(write_scenes(tmp_path, {0: 1}, noise=True)).read_block(0).values()
    objective = StructureObjective(CONFIG, TINY)
    ours = objective.decode(view, 16, "smooth")
    theirs = pickle.loads(pickle.dumps(objective.decode))(view, 16, "smooth")
    assert (ours.instance_images == theirs.instance_images).all()
    assert (ours.instance_latents == theirs.instance_latents).all()


@pytest.mark.parametrize("warmup", [False, True])
def test_average_is_bit_for_bit_that_of_one_weight_after_the_other(warmup):
    """States and models of earlier versions must lead to the same weights."""
    config = TrainConfig(**{**vars(CONFIG), "ema_decay": 0.97, "ema_warmup": warmup})
    objective = StructureObjective(config, TINY)
    state = TrainState(objective, objective.network_args(), "cpu", Ranks())
    expected = [weight.clone() for weight in state.ema.parameters()]
    generator = torch.Generator().manual_seed(0)
    for state.step in (1, 2, 50, 500):
        decay = min(0.97, (1 + state.step) / (10 + state.step)) if warmup else 0.97
        for average, weight in zip(expected, state.model.parameters(), strict=True):
            weight.data.normal_(generator=generator)
            average.lerp_(weight.data, 1 - decay)
        state._update_average()
    assert all(map(torch.equal, expected, state.ema.parameters()))


def imports_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("data", {"data"}),
        ("objectives", {"config", "data", "objectives"}),
        ("objectives/structure", {"config", "data", "objectives"}),
        ("objectives/structured_latents", {"config", "data", "objectives"}),
    ],
)
def test_data_knows_no_objective_and_objectives_know_no_trainer(room, allowed):
    for path in (PACKAGE / room).glob("*.py"):
        for module in imports_of(path):
            if module.startswith("datagen.training"):
                assert module.split(".")[2] in allowed, f"{path} imports {module}"


def test_kinds_of_model_know_nothing_of_each_other():
    for room, other in (("structure", "structured_latents"), ("structured_latents", "structure")):
        for path in (PACKAGE / "objectives" / room).glob("*.py"):
            prefix = f"datagen.training.objectives.{other}"
            found = {
                module for module in imports_of(path) if module.split(".")[:4] == prefix.split(".")
            }
            assert not found, f"{path} imports {found}"
