"""The structure model: seeds, sizes, normalisation, saving, means, and scene context."""

import pytest
import torch

from datagen.models import MODEL_ARGS, SceneModel, build_model, load_model, save_model
from datagen.sampling import sample_flow


def test_build_model_with_equal_seeds_gives_equal_weights_and_leaves_torch_rng_alone():
    before = torch.random.get_rng_state()
    first, second, other = (build_model("small", seed) for seed in (1, 1, 2))
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    weight = first.flow.input_layer.weight
    assert not torch.equal(weight, other.flow.input_layer.weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_large_model_has_the_parameters_of_the_published_flow_model():
    with torch.device("meta"):
        model = SceneModel(**MODEL_ARGS["iscene-L"])
    assert sum(p.numel() for p in model.flow.parameters()) == 555_543_560
    assert list(model.flow.scene_context_blocks) == [10, 11, 12, 13, 14]


def test_normalize_and_denormalize_are_inverse_and_centre_the_channels():
    model = build_model("small", 0)
    model.latent_mean.copy_(torch.arange(8.0).reshape(8, 1, 1, 1))
    model.latent_std.fill_(2.0)
    latent = torch.randn(3, 2, 8, 16, 16, 16)
    x_0 = model.normalize(latent)
    assert x_0[0, 0, 5, 0, 0, 0] == pytest.approx((latent[0, 0, 5, 0, 0, 0].item() - 5) / 2)
    torch.testing.assert_close(model.denormalize(x_0), latent)


@torch.no_grad()
def test_saved_scene_model_samples_the_same_after_loading(tmp_path):
    model = build_model("small", 0).eval()
    torch.manual_seed(3)
    for parameter in model.flow.out_layer.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model.latent_std.fill_(3.0)
    save_model(model, tmp_path / "model", MODEL_ARGS["small"])
    loaded = load_model(tmp_path / "model", device="cpu")

    size = MODEL_ARGS["small"]["image_encoder"]["size_px"]
    images = torch.randint(0, 256, (1, 4, size, size, 3), dtype=torch.uint8)
    noise = torch.randn(1, 4, 8, 16, 16, 16)
    samples = []
    for network in (model, loaded):
        cond = network.encode_images(images)
        x_0 = sample_flow(network, noise, cond, torch.zeros_like(cond), steps=3)
        samples.append(network.denormalize(x_0))
    assert samples[0].shape == (1, 4, 8, 16, 16, 16)
    torch.testing.assert_close(samples[0], samples[1], rtol=0, atol=0)


@torch.no_grad()
def test_image_tokens_depend_on_where_in_the_image_a_thing_is():
    model = build_model("small", 0)
    size = MODEL_ARGS["small"]["image_encoder"]["size_px"]
    images = torch.zeros(1, 2, size, size, 3, dtype=torch.uint8)
    images[0, 0, :16, :16] = 255
    images[0, 1, 16:32, :16] = 255
    tokens = model.encode_images(images)
    assert not torch.allclose(tokens[0, 0].mean(dim=0), tokens[0, 1].mean(dim=0), atol=1e-3)


@torch.no_grad()
def test_untrained_flow_predicts_the_mean_of_the_image():
    model = build_model("small", 0)
    torch.nn.init.normal_(model.image_to_mean.spread.weight)
    torch.nn.init.normal_(model.low_rank_mean.spread.weight)
    size = MODEL_ARGS["small"]["image_encoder"]["size_px"]
    cond = model.encode_images(torch.randint(0, 256, (2, 3, size, size, 3), dtype=torch.uint8))
    x = torch.randn(2, 3, 8, 16, 16, 16)
    t = torch.tensor([0.9, 0.3])
    x_0 = x - t.reshape(-1, 1, 1, 1, 1, 1) * model(x, 1000 * t, cond)
    empty = model.encode_images(torch.zeros(1, 1, size, size, 3, dtype=torch.uint8))[0, 0]
    mean = model.image_to_mean(cond) + model.low_rank_mean(cond, empty)
    torch.testing.assert_close(x_0, mean, rtol=1e-3, atol=1e-3)
    nothing = torch.zeros_like(cond)
    assert model.image_to_mean(cond).any() and not model.image_to_mean(nothing).any()
    assert not model.low_rank_mean(nothing, empty).any(), "no image, no mean"
    assert not model.low_rank_mean(empty.expand_as(cond), empty).any()


@pytest.mark.parametrize(("blocks", "sees_the_scene"), [(0, False), (1, True), (None, True)])
def test_scene_context_blocks_decide_whether_instances_see_the_scene(blocks, sees_the_scene):
    model = build_model("small", 0, scene_context_blocks=blocks).eval()
    flow = model.flow
    torch.nn.init.normal_(flow.out_layer.weight, generator=torch.Generator().manual_seed(1))
    for block in flow.blocks:  # fresh gates are zero, and let nothing through
        torch.nn.init.normal_(block.adaLN_modulation[1].bias, std=1.0)
    channels = MODEL_ARGS["small"]["image_encoder"]["channels"]
    cond = torch.zeros(1, 2, 3, channels)
    instance, scene, other = torch.randn(3, 1, 1, 8, 16, 16, 16)
    t = torch.tensor([500.0])
    with torch.no_grad():
        first = flow.forward_scene(instance, scene[:, 0], t, cond[:, 1:], cond[:, 0])[0]
        second = flow.forward_scene(instance, other[:, 0], t, cond[:, 1:], cond[:, 0])[0]
    assert torch.equal(first, second) != sees_the_scene


def test_small_model_on_a_frozen_encoder_has_its_channels_and_no_means():
    model = build_model("small", 0, image_encoder="dinov2_vitl14_reg")
    assert model.image_encoder is None and model.image_to_mean is None
    x, cond = torch.randn(1, 2, 8, 16, 16, 16), torch.randn(1, 2, 5, 1024)
    assert model(x, torch.tensor([500.0]), cond).shape == x.shape


def test_low_rank_mean_can_be_left_out():
    model = build_model("small", 0, low_rank_mean=False)
    assert model.low_rank_mean is None and model.image_to_mean is not None
