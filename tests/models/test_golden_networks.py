"""Structure networks give the outputs that the published classes gave for the same weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from datagen.models import (
    SparseStructureDecoder,
    SparseStructureEncoder,
    SparseStructureFlowModel,
    load_model,
)
from datagen.models.embeddings import grid_position_embedding
from datagen.models.patches import patchify, unpatchify

GOLDEN = Path(__file__).parents[1] / "golden"


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def test_autoencoder_with_golden_weights_gives_golden_outputs():
    encoder = load_model(GOLDEN / "small_ss_enc", device="cpu")
    decoder = load_model(GOLDEN / "small_ss_dec", device="cpu")
    io = load_file(GOLDEN / "small_ss_vae_io.safetensors")
    mean, logvar = encoder.moments(io["occupancy"])
    assert relative_error(mean, io["mean"]) < 1e-4
    assert relative_error(logvar, io["logvar"]) < 1e-4
    assert relative_error(decoder(io["mean"]), io["logits"]) < 1e-4
    torch.testing.assert_close(encoder(io["occupancy"]), mean)


@torch.no_grad()
@pytest.mark.parametrize("name", ["small_ss_flow", "small_p2_ss_flow", "small_sca_flow"])
def test_flow_model_with_golden_weights_gives_golden_velocity(name):
    model = load_model(GOLDEN / name, device="cpu")
    io = load_file(GOLDEN / f"{name}_io.safetensors")
    velocity = model(io["x_t"], io["t_times_1000"], io["cond"])
    assert relative_error(velocity, io["velocity"]) < 1e-4


@pytest.mark.parametrize(
    ("manifest", "cls"),
    [
        ("manifest_ss_enc_conv3d_16l8_fp16", SparseStructureEncoder),
        ("manifest_ss_dec_conv3d_16l8_fp16", SparseStructureDecoder),
        ("manifest_ss_flow_img_dit_L_16l8_fp16", SparseStructureFlowModel),
    ],
)
def test_network_of_published_size_has_published_tensors(manifest, cls):
    published = json.loads((GOLDEN / f"{manifest}.json").read_text())
    with torch.device("meta"):
        state = cls(**published["args"]).state_dict()
    ours = {
        key: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        for key, tensor in state.items()
    }
    assert ours == published["tensors"]


@pytest.mark.parametrize("name", ["small_ss_flow", "small_p2_ss_flow"])
def test_position_embedding_computed_here_is_the_stored_one(name):
    model = load_model(GOLDEN / name, device="cpu")
    side = model.resolution // model.patch_size
    computed = grid_position_embedding(side, model.pos_emb.shape[1])
    torch.testing.assert_close(computed, model.pos_emb, rtol=0, atol=1e-6)


@torch.no_grad()
def test_half_precision_torso_run_in_float32_gives_nearly_the_float32_output():
    published = json.loads((GOLDEN / "small_ss_flow.json").read_text())["args"]
    state = load_file(GOLDEN / "small_ss_flow.safetensors")
    half = SparseStructureFlowModel(**{**published, "use_fp16": True})
    assert half.blocks[0].mlp.mlp[0].weight.dtype == torch.float16
    half.load_state_dict(state)
    io = load_file(GOLDEN / "small_ss_flow_io.safetensors")
    for model in (half, half.float()):
        velocity = model(io["x_t"], io["t_times_1000"], io["cond"])
        assert velocity.dtype == torch.float32
        assert relative_error(velocity, io["velocity"]) < 1e-2  # weights were rounded to half


def test_encoder_with_half_precision_torso_keeps_norms_in_float32():
    args = json.loads((GOLDEN / "small_ss_enc.json").read_text())["args"]
    encoder = SparseStructureEncoder(**{**args, "use_fp16": True})
    halves = {m.weight.dtype for m in encoder.middle_block.modules() if isinstance(m, nn.Conv3d)}
    norms = {m.weight.dtype for m in encoder.modules() if isinstance(m, nn.LayerNorm)}
    assert halves == {torch.float16}
    assert norms == {torch.float32}


def test_patchify_orders_features_by_channel_then_x_y_z():
    x = torch.arange(2 * 4**3).reshape(1, 2, 4, 4, 4)
    tokens = patchify(x, 2)
    assert tokens.shape == (1, 8, 16)
    # Token 1 is the patch at x 0–1, y 0–1, z 2–3.
    expected = [
        x[0, c, i, j, k].item() for c in (0, 1) for i in (0, 1) for j in (0, 1) for k in (2, 3)
    ]
    assert tokens[0, 1].tolist() == expected
    torch.testing.assert_close(unpatchify(tokens, 2, 2), x)
