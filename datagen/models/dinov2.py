"""DINOv2 with registers, frozen: the image tokens that TRELLIS and I-Scene are conditioned on.

The network is the transformers package's. Weights come in its format (a folder, a hub id) or in
torch.hub's (one .pth file), which this module translates.

Shape suffixes: B batch, G images of one sample, K images, T tokens, C channels, S side in pixels.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datagen.errors import ConfigError, DatasetError, first_line
from datagen.models.weight_files import read_weights
from datagen.views.conditioning import resize_lanczos4

DINOV2_LARGE = "dinov2_vitl14_reg"
"""torch.hub's name of ViT-L/14 with 4 registers, the encoder of TRELLIS and I-Scene."""

HUB_ID = "facebook/dinov2-with-registers-large"
"""The same weights on the Hugging Face hub."""

DINOV2_HEAD_CHANNELS = 64
"""Channels of an attention head, in every size of DINOv2."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DinoV2:
    """A frozen image encoder: uint8 images to tokens.

    It is a plain object, so that a model which holds one does not train, average or store its
    weights. Copies of that model share it.
    """

    resize = staticmethod(resize_lanczos4)
    """Resizes crops to ``size_px``."""

    def __init__(self, network: Any) -> None:
        """Freeze a ``Dinov2WithRegistersModel``, which stays on its device."""
        self._network = network.eval().requires_grad_(False)
        # Released features are taken before the last norm ("x_prenorm").
        self._network.layernorm = torch.nn.Identity()
        config = network.config
        self.size_px: int = config.image_size
        self.channels: int = config.hidden_size
        patches = (config.image_size // config.patch_size) ** 2
        self._num_extra: int = 1 + config.num_register_tokens
        self.num_tokens: int = self._num_extra + patches

    def fingerprint(self) -> str:
        """Return the sha256 (hex) of all weights; the format of their file does not matter."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __deepcopy__(self, memo: dict[int, Any]) -> "DinoV2":
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the tokens (B, G, T, C) float32 of images (B, G, S, S, 3), uint8 sRGB.

        Each has mean 0 and variance 1. They are a class token, the registers, then the patches row
        by row: T is 1374 for ViT-L at 518 px.
        """
        features = self._features(images.flatten(0, 1))
        tokens = F.layer_norm(features, features.shape[-1:]).to(images.device)
        return tokens.reshape(*images.shape[:2], self.num_tokens, self.channels)

    @torch.no_grad()
    def patch_features(self, images: Tensor) -> Tensor:
        """Return the maps (K, C, S/14, S/14) float32 of images (K, S, S, 3), uint8 sRGB.

        They hold the patches' features before the last norm, which TRELLIS averages on voxels.
        """
        side = math.isqrt(self.num_tokens - self._num_extra)
        patches = self._features(images)[:, self._num_extra :]
        return patches.transpose(1, 2).reshape(len(images), self.channels, side, side)

    def _features(self, images: Tensor) -> Tensor:
        """Return the features (K, T, C) of images (K, S, S, 3), uint8."""
        device = self._network.device
        mean, std = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        pixels = images.to(device).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(device.type, enabled=False):
            features: Tensor = self._network(((pixels - mean) / std).contiguous()).last_hidden_state
        return features


def load_dinov2(source: str, device: str | torch.device) -> DinoV2:
    """Return the frozen encoder of a name or file.

    Args:
        source: ``dinov2_vitl14_reg``, a folder, a hub id, or torch.hub's .pth file.
        device: where the network goes.

    Raises:
        ConfigError: the transformers package is not installed.
        DatasetError: the weights are neither here nor on the hub, or of another architecture.
    """
    path = Path(source)
    if path.is_file():
        return dinov2_from_hub_format(read_weights(path), source, device)
    if path.suffix in (".pth", ".pt", ".safetensors"):
        raise DatasetError(
            f"--image-encoder {source}: no such file. Expected torch.hub's "
            "dinov2_vitl14_reg4_pretrain.pth; check the path."
        )
    transformers = _transformers()
    name = HUB_ID if source == DINOV2_LARGE else source
    try:
        config = transformers.AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"--image-encoder {source}: {name} is no folder here, and the Hugging Face hub did "
            f"not give it ({first_line(error)}). Expected weights of DINOv2 with registers; "
            "check the network, or give a downloaded folder or torch.hub's .pth file."
        ) from error
    if config.model_type != "dinov2_with_registers":
        raise DatasetError(
            f"--image-encoder {source}: holds a {config.model_type} model, expected "
            f"dinov2_with_registers. Give {DINOV2_LARGE}."
        )
    return DinoV2(_strictly_loaded(source, name, config).to(device))


def dinov2_from_hub_format(
    tensors: dict[str, Tensor], where: str, device: str | torch.device
) -> DinoV2:
    """Return the encoder of torch.hub's state dict; the tensors' shapes give its sizes.

    Args:
        tensors: (...), the state dict.
        where: its file, for messages.
        device: where the network goes.

    Raises:
        ConfigError: the transformers package is not installed.
        DatasetError: the tensors are of another network than a DINOv2 with registers for RGB.
    """
    needed = ("register_tokens", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise DatasetError(
            f"{where}: holds no {missing[0]}, a checkpoint of another architecture than DINOv2 "
            f"with registers. Expected torch.hub's {DINOV2_LARGE}."
        )
    in_channels = tensors["patch_embed.proj.weight"].shape[1]
    if in_channels != 3:
        raise DatasetError(
            f"{where}: its first layer takes {in_channels} channels, expected 3 (RGB). Give "
            f"weights that take RGB images, such as {DINOV2_LARGE}."
        )
    channels, patch = tensors["cls_token"].shape[-1], tensors["patch_embed.proj.weight"].shape[-1]
    config = _transformers().Dinov2WithRegistersConfig(
        hidden_size=channels,
        num_hidden_layers=1 + max(int(k.split(".")[1]) for k in tensors if k.startswith("blocks.")),
        num_attention_heads=max(channels // DINOV2_HEAD_CHANNELS, 1),
        mlp_ratio=tensors["blocks.0.mlp.fc1.weight"].shape[0] // channels,
        num_register_tokens=tensors["register_tokens"].shape[1],
        patch_size=patch,
        image_size=patch * math.isqrt(tensors["pos_embed"].shape[1] - 1),
    )
    translated = translate_hub_keys(tensors)
    return DinoV2(_strictly_loaded(where, None, config, translated).to(device))


def translate_hub_keys(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return torch.hub's tensors (...) under the names of transformers' published files."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if not key.startswith("blocks."):
            renamed[_HUB_KEYS.get(key, key)] = tensor
            continue
        _, block, rest = key.split(".", 2)
        layer = f"encoder.layer.{block}"
        if rest.startswith("attn.qkv."):
            for name, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"{layer}.attention.attention.{name}.{rest.split('.')[-1]}"] = part.clone()
        else:
            for old, new in _HUB_BLOCK_KEYS.items():
                rest = rest.replace(old, new)
            renamed[f"{layer}.{rest}"] = tensor
    return renamed


_HUB_KEYS = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "register_tokens": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_HUB_BLOCK_KEYS = {
    "attn.proj": "attention.output.dense",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}


def _strictly_loaded(
    where: str, name: str | None, config: Any, tensors: dict[str, Tensor] | None = None
) -> Any:
    """Return the network; a tensor that transformers would fill at random is an error."""
    try:
        network, info = _transformers().Dinov2WithRegistersModel.from_pretrained(
            name, config=config, state_dict=tensors, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DatasetError(
            f"{where}: its weights cannot be loaded ({first_line(error)}). Expected DINOv2 with "
            "registers; fetch the checkpoint again."
        ) from error
    wrong = [str(key) for kind in _INFO_KEYS for key in sorted(info.get(kind, ()))]
    if wrong:
        raise DatasetError(
            f"{where}: a checkpoint of another architecture: {len(wrong)} tensors are missing, "
            f"unexpected or mis-shaped (first: {wrong[0]}). Expected DINOv2 with registers."
        )
    return network


_INFO_KEYS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def _transformers() -> Any:
    try:
        import transformers  # seconds to import, and optional
    except ImportError:
        raise ConfigError(
            "DINOv2 needs the package transformers, which is not installed. Expected the extra "
            "dinov2: pip install 'datagen[dinov2]'."
        ) from None
    transformers.logging.disable_progress_bar()
    return transformers
