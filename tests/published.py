"""Tiny random weights in the formats in which TRELLIS, I-Scene and DINOv2 are published."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from datagen.models import SparseStructureSceneContextFlowModel

CHANNELS, BLOCKS, PATCH, SIDE, REGISTERS = 128, 3, 14, 4, 4
SIZE_PX = PATCH * SIDE

FLOW_ARGS = {
    "resolution": 16,
    "in_channels": 8,
    "out_channels": 8,
    "model_channels": 32,
    "cond_channels": CHANNELS,
    "num_blocks": 4,
    "num_heads": 2,
    "mlp_ratio": 4,
    "patch_size": 4,
    "pe_mode": "ape",
    "qk_rms_norm": True,
    "use_fp16": True,
}

SETTINGS = """
sizes: {{cond: {cond_channels}}}
models:
  denoiser:
    name: SparseStructureSceneContextFlowModel
    args:
      resolution: 16
      in_channels: 8
      out_channels: 8
      model_channels: 32
      cond_channels: ${{sizes.cond}}
      num_blocks: 4
      num_heads: 2
      mlp_ratio: 4
      patch_size: 4
      pe_mode: ape
      qk_rms_norm: true
      use_fp16: true
      scene_context_attn_num: 2
      learning_pattern: full-finetune
      exp_setting: {exp_setting}
      type_embedding_type: null
      k_bias_scale: 0.2
      pretrained_base: null
  img_conditioner:
    name: ImageConditioner
    args: {{image_cond_model: dinov2_vitl14_reg, cond_in_channels: 3, use_fp16: true}}
dataset: {{args: {{exp_setting: {exp_setting}}}}}
"""


def dinov2_weights(channels: int = CHANNELS, in_channels: int = 3) -> dict[str, Tensor]:
    """Return random weights of DINOv2 with registers, by torch.hub's names and shapes."""
    shapes = {
        "cls_token": (1, 1, channels),
        "register_tokens": (1, REGISTERS, channels),
        "mask_token": (1, channels),
        "pos_embed": (1, 1 + SIDE**2, channels),
        "patch_embed.proj.weight": (channels, in_channels, PATCH, PATCH),
        "patch_embed.proj.bias": (channels,),
        "norm.weight": (channels,),
        "norm.bias": (channels,),
    }
    for block in (f"blocks.{i}" for i in range(BLOCKS)):
        for name, rows, columns in (
            ("attn.qkv", 3 * channels, channels),
            ("attn.proj", channels, channels),
            ("mlp.fc1", 4 * channels, channels),
            ("mlp.fc2", channels, 4 * channels),
        ):
            shapes |= {f"{block}.{name}.weight": (rows, columns), f"{block}.{name}.bias": (rows,)}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[f"{block}.{name}"] = (channels,)
        shapes |= {f"{block}.ls1.gamma": (channels,), f"{block}.ls2.gamma": (channels,)}
    generator = torch.Generator().manual_seed(5)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def random_flow() -> SparseStructureSceneContextFlowModel:
    """Return a flow model with all weights random; a fresh one gives zeros."""
    model = SparseStructureSceneContextFlowModel(scene_context_attn_num=2, **FLOW_ARGS)
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def write_trellis_flow(path: Path) -> None:
    """Write ``path``.json and ``path``.safetensors in the format of TRELLIS's flow model."""
    save_file(random_flow().state_dict(), f"{path}.safetensors")
    description = {"name": "SparseStructureFlowModel", "args": FLOW_ARGS}
    Path(f"{path}.json").write_text(json.dumps(description))


def write_iscene_package(folder: Path, exp_setting: str = "global") -> None:
    """Write I-Scene's package, with the prefix of distributed training before weights' names."""
    folder.mkdir(parents=True)
    files = {
        "base_model_id": "microsoft/TRELLIS-image-large",
        "config_file": "config.yaml",
        "denoiser_checkpoint": "denoiser.pt",
        "image_conditioner_checkpoint": "img_conditioner.pt",
    }
    (folder / "iscene_config.json").write_text(json.dumps(files))
    settings = SETTINGS.format(exp_setting=exp_setting, cond_channels=CHANNELS)
    (folder / "config.yaml").write_text(settings)
    denoiser = {f"module.{key}": value for key, value in random_flow().state_dict().items()}
    torch.save(denoiser, folder / "denoiser.pt")
    conditioner = {f"base_img_conditioner.{k}": v for k, v in dinov2_weights().items()}
    torch.save(conditioner, folder / "img_conditioner.pt")
