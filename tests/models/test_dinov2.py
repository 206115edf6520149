"""The frozen DINOv2 gives a plain network's tokens, from both formats its weights come in."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datagen.errors import DatasetError
from datagen.models.dinov2 import (
    DINOV2_LARGE,
    DinoV2,
    dinov2_from_hub_format,
    load_dinov2,
    translate_hub_keys,
)
from tests.published import BLOCKS, CHANNELS, PATCH, REGISTERS, SIDE, SIZE_PX, dinov2_weights

transformers = pytest.importorskip("transformers")

HEADS = 2


def plain_x_prenorm(w: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return torch.hub's x_prenorm of normalised images (B, 3, S, S), computed step by step."""
    x = F.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=PATCH)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], dim=1) + w["pos_embed"]
    x = torch.cat([x[:, :1], w["register_tokens"].expand(len(x), -1, -1), x[:, 1:]], dim=1)
    for i in range(BLOCKS):
        p = {
            k.removeprefix(f"blocks.{i}."): v for k, v in w.items() if k.startswith(f"blocks.{i}.")
        }
        h = F.layer_norm(x, (CHANNELS,), p["norm1.weight"], p["norm1.bias"], eps=1e-6)
        qkv = F.linear(h, p["attn.qkv.weight"], p["attn.qkv.bias"])
        q, k, v = qkv.unflatten(-1, (3, HEADS, CHANNELS // HEADS)).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-1, -2) / (CHANNELS // HEADS) ** 0.5).softmax(dim=-1)
        h = (attention @ v).transpose(1, 2).flatten(2)
        x = x + p["ls1.gamma"] * F.linear(h, p["attn.proj.weight"], p["attn.proj.bias"])
        h = F.layer_norm(x, (CHANNELS,), p["norm2.weight"], p["norm2.bias"], eps=1e-6)
        h = F.gelu(F.linear(h, p["mlp.fc1.weight"], p["mlp.fc1.bias"]))
        x = x + p["ls2.gamma"] * F.linear(h, p["mlp.fc2.weight"], p["mlp.fc2.bias"])
    return x


def random_images(batch: int = 2, grids: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, grids, SIZE_PX, SIZE_PX, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The same weights in both published formats: torch.hub's file, transformers' folder."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(dinov2_weights(), folder / "dinov2_vitl14_reg4_pretrain.pth")
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=CHANNELS,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        image_size=SIZE_PX,
        patch_size=PATCH,
        num_register_tokens=REGISTERS,
    )
    network = transformers.Dinov2WithRegistersModel.from_pretrained(
        None, config=config, state_dict=translate_hub_keys(dinov2_weights())
    )
    network.save_pretrained(folder / "folder")
    return folder


def test_both_formats_give_the_tokens_of_a_plain_network(published):
    images = random_images()
    pixels = images.flatten(0, 1).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    expected = plain_x_prenorm(dinov2_weights(), (pixels - mean) / std)
    expected = (expected - expected.mean(-1, keepdim=True)) / (
        expected.var(-1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    for source in ("dinov2_vitl14_reg4_pretrain.pth", "folder"):
        encoder = load_dinov2(str(published / source), "cpu")
        tokens = encoder(images)
        assert tokens.shape == (2, 3, encoder.num_tokens, CHANNELS)
        assert encoder.num_tokens == 1 + REGISTERS + SIDE**2
        assert encoder.size_px == SIZE_PX
        torch.testing.assert_close(tokens.flatten(0, 1), expected, atol=2e-4, rtol=2e-4)


def test_patch_features_are_the_patches_before_the_last_norm_row_by_row(published):
    images = random_images()[0]
    pixels = images.permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    expected = plain_x_prenorm(dinov2_weights(), (pixels - mean) / std)[:, 1 + REGISTERS :]
    features = load_dinov2(str(published / "folder"), "cpu").patch_features(images)
    assert features.shape == (len(images), CHANNELS, SIDE, SIDE)
    for row in range(SIDE):
        for column in range(SIDE):
            patch = expected[:, SIDE * row + column]
            torch.testing.assert_close(features[:, :, row, column], patch, atol=2e-4, rtol=2e-4)


def test_published_size_has_1374_tokens_of_1024_channels():
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=518,
        patch_size=14,
        num_register_tokens=4,
    )
    with torch.device("meta"):
        network = transformers.Dinov2WithRegistersModel(config)
    assert sum(p.numel() for p in network.parameters()) == 304_372_736  # ViT-L with registers
    encoder = DinoV2(network)
    assert (encoder.num_tokens, encoder.channels, encoder.size_px) == (1374, 1024, 518)


def test_black_crop_and_its_neighbour_do_not_mix(published):
    encoder = load_dinov2(str(published / "folder"), "cpu")
    images = random_images()
    together, alone = encoder(images), encoder(images[:, 1:2])
    torch.testing.assert_close(together[:, 1:2], alone, atol=1e-5, rtol=1e-5)


def test_model_that_holds_the_encoder_neither_stores_nor_copies_it(published):
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image_encoder = load_dinov2(str(published / "folder"), "cpu")

    holder = Holder()
    assert not holder.state_dict() and not list(holder.parameters())
    assert copy.deepcopy(holder).image_encoder is holder.image_encoder


def test_ten_channel_conditioner_is_refused():
    with pytest.raises(DatasetError, match="takes 10 channels, expected 3"):
        dinov2_from_hub_format(dinov2_weights(in_channels=10), "c.pt", "cpu")


def test_missing_tensor_is_an_error_not_a_random_number():
    weights = dinov2_weights()
    del weights["blocks.1.attn.proj.weight"]
    with pytest.raises(DatasetError, match=r"tensors are missing.*encoder\.layer\.1"):
        dinov2_from_hub_format(weights, "c.pt", "cpu")


def test_other_architecture_is_named(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(DatasetError, match="holds no register_tokens"):
        load_dinov2(str(tmp_path / "resnet.pth"), "cpu")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DatasetError, match="holds a bert model"):
        load_dinov2(str(tmp_path / "bert"), "cpu")


def test_without_network_the_message_names_the_way_out(monkeypatch, tmp_path):
    def refuse(*arguments, **options):
        raise OSError("We couldn't connect to the hub\nand more")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(DatasetError, match=r"couldn't connect.*torch\.hub's \.pth") as caught:
        load_dinov2(DINOV2_LARGE, "cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match="no such file"):
        load_dinov2(str(tmp_path / "none.pth"), "cpu")


def test_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"a": io.BytesIO(b"x")}, tmp_path / "code.pth")
    with pytest.raises(DatasetError, match="other content is never run"):
        load_dinov2(str(tmp_path / "code.pth"), "cpu")
