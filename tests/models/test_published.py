"""Published checkpoints become scene models that compute the same, or an error names the fault."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from datagen.core.seeding import rng_for
from datagen.errors import ConfigError, DatasetError
from datagen.models import MODEL_ARGS, build_model, find_scene_model, load_scene_model, save_model
from datagen.models.dinov2 import load_dinov2
from datagen.models.published import ModelFiles
from datagen.training.config import FlowMatching
from datagen.training.objectives.flow_matching import draw
from datagen.training.objectives.structure.losses import flow_losses
from tests.published import CHANNELS, dinov2_weights, random_flow, write_iscene_package
from tests.published import write_trellis_flow as write_trellis

pytest.importorskip("transformers")


@pytest.fixture
def dino(tmp_path):
    torch.save(dinov2_weights(), tmp_path / "dino.pth")
    return str(tmp_path / "dino.pth")


def random_stack(num_grids: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, num_grids, 8, 16, 16, 16, generator=generator)
    cond = torch.randn(1, num_grids, 21, CHANNELS, generator=generator)
    return x, torch.tensor([600.0]), cond


@torch.no_grad()
def test_package_gives_the_velocities_of_the_released_pairs(tmp_path):
    write_iscene_package(tmp_path / "package")
    model = load_scene_model(tmp_path / "package", device="cpu")
    x, t, cond = random_stack(4)  # the scene, three instances
    v = model(x, t, cond)
    flow = random_flow().float().eval()
    for i in (1, 2, 3):  # released: the slots [instance, scene], with the scene run again each time
        pair = flow(x[:, [i, 0]], t, cond[:, [i, 0]])
        torch.testing.assert_close(v[:, i], pair[:, 0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(v[:, 0], pair[:, 1], atol=1e-4, rtol=1e-4)
    assert v.std() > 0.01
    images = torch.randint(0, 256, (1, 2, 56, 56, 3), dtype=torch.uint8)
    assert model.encode_images(images).shape == (1, 2, 21, CHANNELS)


@torch.no_grad()
def test_package_with_the_local_slot_gives_the_released_triples(tmp_path):
    write_iscene_package(tmp_path / "package", "global local")
    model = load_scene_model(tmp_path / "package", device="cpu")
    assert model.local_slot
    x, t, cond = random_stack(5)  # the scene, two instances, the two in their own frames
    v = model(x, t, cond)
    flow = random_flow().float().eval()
    for i in (1, 2):
        slots = [i, 0, i + 2]
        torch.testing.assert_close(
            v[:, slots], flow(x[:, slots], t, cond[:, slots]), atol=1e-4, rtol=1e-4
        )


@torch.no_grad()
def test_trellis_weights_make_a_scene_model(tmp_path, dino):
    write_trellis(tmp_path / "ss_flow")
    model = load_scene_model(tmp_path / "ss_flow", device="cpu", image_encoder=dino)
    x, t, cond = random_stack(2)
    scene_alone = random_flow().float().eval().predict_grids(x[:, :1], t, cond[:, :1])
    torch.testing.assert_close(model(x, t, cond)[:, :1], scene_alone, atol=1e-4, rtol=1e-4)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_trained_model_with_a_frozen_encoder_is_loaded_with_it(tmp_path, dino):
    flow = MODEL_ARGS["small"]["flow"] | {"cond_channels": CHANNELS}
    model = build_model({"flow": flow, "image_encoder": {}}, 0, image_encoder=dino)
    assert not any(key.startswith("image_encoder") for key in model.state_dict())
    with pytest.raises(ConfigError, match="is not loaded"):
        model.conditioner  # noqa: B018
    save_model(model, tmp_path / "model", {"flow": flow, "image_encoder": dino})
    loaded = load_scene_model(tmp_path / "model", device="cpu")
    assert loaded.conditioner.channels == CHANNELS
    torch.testing.assert_close(loaded.state_dict(), model.state_dict())


def test_step_of_training_under_a_frozen_encoder_moves_the_flow_alone(dino):
    flow = MODEL_ARGS["small"]["flow"] | {"cond_channels": CHANNELS}
    model = build_model({"flow": flow, "image_encoder": {}}, 0, image_encoder=dino)
    model.image_encoder = load_dinov2(dino, "cpu")
    average = copy.deepcopy(model)
    assert average.image_encoder is model.image_encoder
    before = model.image_encoder(torch.zeros(1, 1, 56, 56, 3, dtype=torch.uint8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rng = rng_for(0, "step")
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, 56, 56, 3)).astype("uint8"))
    x_0 = torch.from_numpy(rng.standard_normal((2, 3, 8, 16, 16, 16)).astype("float32"))
    drawn = draw(FlowMatching(drop_condition=0.0), rng, x_0.shape)
    losses = []
    for _ in range(3):
        loss = flow_losses(FlowMatching(), model, x_0, images, drawn).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]
    after = model.image_encoder(torch.zeros(1, 1, 56, 56, 3, dtype=torch.uint8))
    torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_encoder_for_a_model_with_its_own_or_of_other_channels_is_refused(tmp_path, dino):
    save_model(build_model("small", 0), tmp_path / "own", MODEL_ARGS["small"])
    with pytest.raises(ConfigError, match="has an encoder of its own"):
        load_scene_model(tmp_path / "own", device="cpu", image_encoder=dino)
    write_trellis(tmp_path / "ss_flow")
    torch.save(dinov2_weights(channels=64), tmp_path / "narrow.pth")
    with pytest.raises(DatasetError, match=r"64 channels, and .* takes 128"):
        load_scene_model(
            tmp_path / "ss_flow", device="cpu", image_encoder=str(tmp_path / "narrow.pth")
        )


def test_flow_checkpoint_of_another_shape_is_named(tmp_path, dino):
    write_trellis(tmp_path / "ss_flow")
    tensors = load_file(tmp_path / "ss_flow.safetensors")
    tensors["out_layer.bias"] = torch.zeros(7)
    save_file(tensors, tmp_path / "ss_flow.safetensors")
    with pytest.raises(DatasetError, match=r"1 mis-shaped \(flow\.out_layer\.bias \(7,\)"):
        load_scene_model(tmp_path / "ss_flow", device="cpu", image_encoder=dino)


def edit_json(path, **changes):
    entries = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in entries.items() if v is not None}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "iscene_config.json").unlink(), "iscene_config.json is not there"),
        (lambda f: (f / "denoiser.pt").unlink(), "denoiser.pt is not there"),
        (lambda f: edit_json(f / "iscene_config.json", config_file=None), "has no config_file"),
        (lambda f: (f / "config.yaml").write_text("a: [1"), "is not YAML"),
        (lambda f: (f / "config.yaml").write_text("models: {}"), "models.denoiser.args"),
        (
            lambda f: (f / "config.yaml").write_text(
                (f / "config.yaml").read_text().replace("type: null", "type: enable_gate")
            ),
            "switches type_embedding_type on",
        ),
        (
            lambda f: (f / "config.yaml").write_text(
                (f / "config.yaml").read_text().replace("num_blocks: 4", "num_blocks: 3")
            ),
            "unexpected",
        ),
        (
            lambda f: (f / "config.yaml").write_text(
                (f / "config.yaml").read_text().replace("${sizes.cond}", "${sizes.none}")
            ),
            "no entry sizes.none",
        ),
        (lambda f: torch.save({"a": print}, f / "denoiser.pt"), "other content is never run"),
        (lambda f: torch.save([1], f / "denoiser.pt"), "no state dict"),
        (lambda f: (f / "denoiser.pt").write_text("x"), "cannot be opened"),
        (
            lambda f: torch.save(dinov2_weights(in_channels=10), f / "img_conditioner.pt"),
            "takes 10 channels",
        ),
    ],
)
def test_error_for_a_spoiled_package_names_the_fault(tmp_path, spoil, message):
    write_iscene_package(tmp_path / "package")
    spoil(tmp_path / "package")
    with pytest.raises(DatasetError) as caught:
        load_scene_model(tmp_path / "package", device="cpu")
    assert message in str(caught.value)


def test_files_of_a_package_are_all_that_decides_what_it_computes(tmp_path):
    write_iscene_package(tmp_path / "package")
    found = find_scene_model(str(tmp_path / "package"))
    assert isinstance(found, ModelFiles) and found.kind == "package"
    assert [p.name for p in found.weights] == ["config.yaml", "denoiser.pt", "img_conditioner.pt"]


def test_decoder_given_as_model_is_refused():
    golden = str(Path(__file__).parents[1] / "golden" / "small_ss_dec")
    with pytest.raises(DatasetError, match="holds a SparseStructureDecoder, expected a SceneModel"):
        find_scene_model(golden)
