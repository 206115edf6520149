"""Trainings start from published or own weights, and refuse those that do not fit."""

import json

import pytest
import torch
from safetensors.torch import save_file

from datagen.errors import DatasetError
from datagen.models import SceneModel, SparseStructureFlowModel, build_model, save_model
from datagen.models.initial_weights import load_initial
from datagen.models.scene_model import model_args
from tests.training.tiny import TINY


def scene_model(seed: int) -> SceneModel:
    torch.manual_seed(seed)
    return SceneModel(**TINY)


def flow_tensors(seed: int) -> dict[str, torch.Tensor]:
    """Tensors of a plain flow model, as TRELLIS publishes them."""
    torch.manual_seed(seed)
    args = {k: v for k, v in TINY["flow"].items() if k != "scene_context_attn_num"}
    state = SparseStructureFlowModel(**args).state_dict()
    return {name: torch.randn_like(value) for name, value in state.items()}


def test_trellis_weights_start_the_flow_model_and_leave_the_image_encoder(tmp_path):
    tensors = flow_tensors(1)
    save_file(tensors, tmp_path / "ss_flow.safetensors")
    (tmp_path / "ss_flow.json").write_text(json.dumps({"name": "SparseStructureFlowModel"}))
    model, fresh = scene_model(2), scene_model(2)
    assert load_initial(model, str(tmp_path / "ss_flow")) is False
    for name, value in model.flow.state_dict().items():
        assert torch.equal(value, tensors[name])
    torch.testing.assert_close(
        model.image_encoder.state_dict(), fresh.image_encoder.state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize("in_package", [False, True])
def test_iscene_weights_of_distributed_training_start_the_flow_model(tmp_path, in_package):
    tensors = flow_tensors(3)
    path = tmp_path / "denoiser.pt"
    torch.save({f"module.{name}": value for name, value in tensors.items()}, path)
    (tmp_path / "iscene_config.json").write_text('{"denoiser_checkpoint": "denoiser.pt"}')
    model = scene_model(2)
    assert load_initial(model, str(tmp_path if in_package else path)) is False
    assert all(torch.equal(v, tensors[k]) for k, v in model.flow.state_dict().items())


def test_half_precision_weights_become_single_precision_ones(tmp_path):
    half = {name: value.half() for name, value in flow_tensors(1).items()}
    torch.save(half, tmp_path / "half.pt")
    model = scene_model(2)
    load_initial(model, str(tmp_path / "half.pt"))
    for name, value in model.flow.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, half[name].float())


def test_trained_model_starts_all_of_it_with_its_normalisation(tmp_path):
    trained = scene_model(5)
    trained.latent_mean.fill_(0.25)
    save_model(trained, tmp_path / "model", TINY)
    model = scene_model(2)
    assert load_initial(model, str(tmp_path / "model")) is True
    torch.testing.assert_close(model.state_dict(), trained.state_dict(), rtol=0, atol=0)


def test_weights_of_another_shape_are_refused_with_the_first_that_differ(tmp_path):
    tensors = flow_tensors(1)
    tensors["input_layer.bias"] = torch.zeros(3)
    tensors["odd"] = tensors.pop("out_layer.bias")
    torch.save(tensors, tmp_path / "other.pt")
    with pytest.raises(DatasetError) as caught:
        load_initial(scene_model(2), str(tmp_path / "other.pt"))
    words = str(caught.value)
    assert "1 missing (out_layer.bias); 1 unexpected (odd)" in words
    assert "1 mis-shaped (input_layer.bias (3,) instead of (16,))" in words
    assert "fit --model iscene-L" in words


def test_weights_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"nothing\.pt: no such file"):
        load_initial(scene_model(2), str(tmp_path / "nothing.pt"))


def test_weights_without_low_rank_mean_leave_the_fresh_one(tmp_path):
    without = build_model("small", 1, low_rank_mean=False)
    save_model(without.half(), tmp_path / "model", model_args("small", low_rank_mean=False))
    model, fresh = build_model("small", 2), build_model("small", 2)
    assert load_initial(model, str(tmp_path / "model"))
    found, given = model.state_dict(), without.state_dict()
    for name, tensor in fresh.state_dict().items():
        expected = tensor if name.startswith("low_rank_mean.") else given[name].float()
        assert torch.equal(found[name], expected), name
