"""A saved network loads with equal weights, and files that do not fit are refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from datagen.errors import DatasetError
from datagen.models import SparseStructureFlowModel, load_model, save_model

GOLDEN = Path(__file__).parents[1] / "golden"
ARGS = {
    "resolution": 4,
    "in_channels": 8,
    "out_channels": 8,
    "model_channels": 16,
    "cond_channels": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "patch_size": 2,
}


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    save_model(SparseStructureFlowModel(**ARGS), tmp_path / "flow.v1", ARGS)
    return tmp_path / "flow.v1"


def change_weights(checkpoint: Path, change) -> None:
    path = checkpoint.with_name(checkpoint.name + ".safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_saved_model_loads_with_equal_weights(tmp_path):
    model = SparseStructureFlowModel(**ARGS)
    save_model(model, tmp_path / "deep" / "flow", ARGS)
    loaded = load_model(str(tmp_path / "deep" / "flow"), device="cpu")
    assert type(loaded) is SparseStructureFlowModel
    assert not loaded.training
    torch.testing.assert_close(loaded.state_dict(), model.state_dict())
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == [
        "flow.json",
        "flow.safetensors",
    ]


def test_half_precision_checkpoint_on_cpu_is_float32_unless_asked(tmp_path):
    args = {**ARGS, "use_fp16": True}
    save_model(SparseStructureFlowModel(**args), tmp_path / "half", args)
    stored = load_file(tmp_path / "half.safetensors")
    assert stored["blocks.0.mlp.mlp.0.weight"].dtype == torch.float16
    default = load_model(tmp_path / "half", device="cpu")
    assert {p.dtype for p in default.parameters()} == {torch.float32}
    half = load_model(tmp_path / "half", device="cpu", dtype=torch.float16)
    assert {p.dtype for p in half.parameters()} == {torch.float16}


def test_weights_stored_in_half_precision_load_into_float32_network(checkpoint):
    change_weights(checkpoint, lambda t: t.update({k: v.half() for k, v in t.items()}))
    loaded = load_model(checkpoint, device="cpu")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("out_layer.bias"), "1 missing (out_layer.bias)"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 unexpected (extra)"),
        (
            lambda t: t.update({"out_layer.bias": torch.zeros(3)}),
            "out_layer.bias (3,) instead of (64,)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named_as_another_architecture(checkpoint, change, named):
    change_weights(checkpoint, change)
    with pytest.raises(DatasetError, match="another architecture") as caught:
        load_model(checkpoint, device="cpu")
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "SLatFlowModel", "args": {}},
        {"name": "SparseStructureFlowModel", "args": {"width": 3}},
        {"args": {}},
    ],
)
def test_config_of_another_network_is_refused(checkpoint, config):
    checkpoint.with_name(checkpoint.name + ".json").write_text(json.dumps(config))
    with pytest.raises(DatasetError, match="another architecture"):
        load_model(checkpoint, device="cpu")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_config_that_is_no_json_object_is_refused(checkpoint, text):
    checkpoint.with_name(checkpoint.name + ".json").write_text(text)
    with pytest.raises(DatasetError, match=r"flow\.v1\.json"):
        load_model(checkpoint, device="cpu")


def test_truncated_weights_are_refused(checkpoint):
    path = checkpoint.with_name(checkpoint.name + ".safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DatasetError, match="not a whole safetensors file"):
        load_model(checkpoint, device="cpu")


def test_missing_half_of_the_pair_is_named(checkpoint):
    checkpoint.with_name(checkpoint.name + ".safetensors").unlink()
    with pytest.raises(DatasetError, match=r"flow\.v1\.safetensors is not there"):
        load_model(checkpoint, device="cpu")


def test_missing_local_path_is_not_looked_up_on_the_hub(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json is not there"):
        load_model(str(tmp_path / "none"), device="cpu")


def test_hub_id_without_network_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DatasetError, match="the Hugging Face hub did not give it"):
        load_model("owner/repository/ckpts/network", device="cpu")


def test_hub_id_in_the_cache_loads_without_network(monkeypatch, tmp_path, checkpoint):
    """The folders are those of huggingface_hub's cache, with files instead of links."""
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--owner--repository"
    snapshot = repository / "snapshots" / commit / "ckpts"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for suffix in (".json", ".safetensors"):
        source = checkpoint.with_name(checkpoint.name + suffix)
        (snapshot / f"network{suffix}").write_bytes(source.read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    loaded = load_model("owner/repository/ckpts/network", device="cpu")
    assert type(loaded) is SparseStructureFlowModel
