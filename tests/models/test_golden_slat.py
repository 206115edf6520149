"""Latent networks give the outputs that the published classes gave for the same weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from datagen.models import load_model
from datagen.models.checkpoints import MODELS
from datagen.models.sparse import Sites

GOLDEN = Path(__file__).parents[1] / "golden" / "slat"
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def golden(name):
    model = load_model(GOLDEN / f"small_{name}", device="cpu")
    return model, load_file(GOLDEN / f"small_{name}_io.safetensors")


def sites_of(io):
    return Sites(io["coords"], int(io["coords"][:, 0].max()) + 1)


def recorded(model, names):
    """Return a dict that fills with the outputs of some submodules when the model runs."""
    outputs = {}
    for name in names:
        module = model.get_submodule(name)
        module.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
    return outputs


@torch.inference_mode()
def test_flow_model_gives_the_recorded_velocity_and_every_step_to_it():
    model, io = golden("slat_flow")
    names = ["input_layer", *(f"blocks.{i}" for i in range(3))]
    names += [f"{part}_blocks.{i}" for part in ("input", "out") for i in range(2)]
    outputs = recorded(model, names)
    velocity = model(io["x_t_feats"], io["t_times_1000"], io["cond"], sites_of(io))
    for name in names:
        torch.testing.assert_close(outputs[name], io[f"mid.{name}.feats"], **CLOSE, msg=name)
    torch.testing.assert_close(velocity, io["velocity_feats"], **CLOSE)


@torch.inference_mode()
def test_mesh_decoder_gives_the_recorded_cubes():
    model, io = golden("slat_dec_mesh")
    outputs = recorded(model, ["blocks.0", "blocks.1", "upsample.0", "upsample.1"])
    feats, cubes = model(io["slat_feats"], sites_of(io))
    for index in range(2):
        torch.testing.assert_close(
            outputs[f"blocks.{index}"], io[f"mid.blocks.{index}.feats"], **CLOSE
        )
        torch.testing.assert_close(
            outputs[f"upsample.{index}"][0], io[f"mid.upsample.{index}.feats"], **CLOSE
        )
    torch.testing.assert_close(cubes.coords, io["out_coords"])
    torch.testing.assert_close(feats, io["out_feats"], **CLOSE)


@torch.inference_mode()
def test_gaussian_decoder_gives_the_recorded_channels_and_gaussians():
    model, io = golden("slat_dec_gs")
    outputs = recorded(model, [f"blocks.{i}" for i in range(3)])
    raw = model(io["slat_feats"], sites_of(io))
    for index in range(3):
        torch.testing.assert_close(
            outputs[f"blocks.{index}"], io[f"mid.blocks.{index}.feats"], **CLOSE
        )
    torch.testing.assert_close(raw, io["out_feats"], **CLOSE)
    expected = load_file(GOLDEN / "small_slat_gaussians_io.safetensors")
    for sample, gaussians in enumerate(model.gaussians(raw, sites_of(io))):
        for name, values in vars(gaussians).items():
            torch.testing.assert_close(values, expected[f"sample{sample}.{name}"], **CLOSE)


@pytest.mark.parametrize(
    ("manifest", "parameters"),
    [
        ("slat_flow_img_dit_L_64l8p2_fp16", 600_432_520),
        ("slat_dec_mesh_swin8_B_64l8m256c_fp16", 90_926_693),
        ("slat_dec_gs_swin8_B_64l8gs32_fp16", 85_369_024),
        ("slat_enc_swin8_B_64l8_fp16", 85_817_104),
    ],
)
def test_published_size_has_the_published_tensors(manifest, parameters):
    published = json.loads((GOLDEN / f"manifest_{manifest}.json").read_text())
    with torch.device("meta"):
        model = MODELS[published["name"]](**published["args"])
    ours = {
        key: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        for key, tensor in model.state_dict().items()
    }
    assert ours == published["tensors"]
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
