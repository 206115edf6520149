"""Checkpoints of one network: NAME.json {"name", "args"} beside NAME.safetensors, as TRELLIS's."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from datagen.errors import DatasetError
from datagen.models.scene_context_flow import SparseStructureSceneContextFlowModel
from datagen.models.scene_model import SceneModel
from datagen.models.small_autoencoder import (
    SmallSparseStructureDecoder,
    SmallSparseStructureEncoder,
)
from datagen.models.sparse_structure_flow import SparseStructureFlowModel
from datagen.models.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from datagen.models.structured_latent_decoders import SLatGaussianDecoder, SLatMeshDecoder
from datagen.models.structured_latent_encoder import SLatEncoder
from datagen.models.structured_latent_flow import SLatFlowModel
from datagen.models.structured_latent_model import StructuredLatentModel
from datagen.models.weight_files import (
    checkpoint_files,
    find_checkpoint,
    find_misfits,
    read_config,
    read_weights,
)

MODELS: dict[str, type[nn.Module]] = {
    "ElasticSLatFlowModel": SLatFlowModel,  # the same weights, trained in another way
    "SLatEncoder": SLatEncoder,
    "SLatFlowModel": SLatFlowModel,
    "SLatGaussianDecoder": SLatGaussianDecoder,
    "SLatMeshDecoder": SLatMeshDecoder,
    "SceneModel": SceneModel,
    "StructuredLatentModel": StructuredLatentModel,
    "SmallSparseStructureDecoder": SmallSparseStructureDecoder,
    "SmallSparseStructureEncoder": SmallSparseStructureEncoder,
    "SparseStructureDecoder": SparseStructureDecoder,
    "SparseStructureEncoder": SparseStructureEncoder,
    "SparseStructureFlowModel": SparseStructureFlowModel,
    "SparseStructureSceneContextFlowModel": SparseStructureSceneContextFlowModel,
}


def load_model(
    path_or_hf_id: str | Path, *, device: str | torch.device, dtype: torch.dtype | None = None
) -> nn.Module:
    """Return the network of a checkpoint, in evaluation mode.

    Args:
        path_or_hf_id: the files' common path without suffix, or "OWNER/REPOSITORY/PATH" on the
            Hugging Face hub (cached, so that it works offline later).
        device: where the network goes.
        dtype: precision of every weight. None: the architecture's own, but float32 on a CPU, where
            half precision is slow.

    Raises:
        DatasetError: there are no such files, or they hold another architecture.
    """
    config_path, weights_path = find_checkpoint(path_or_hf_id)
    model = build_described(read_config(config_path), config_path)
    load_strictly(model, read_weights(weights_path), weights_path)
    if dtype is None and torch.device(device).type == "cpu":
        dtype = torch.float32
    return model.to(device=device, dtype=dtype).eval()


def save_model(model: nn.Module, path: Path, args: dict[str, Any]) -> None:
    """Write ``path``.safetensors and ``path``.json, from which ``load_model(path)`` builds a model.

    Args:
        model: one of ``MODELS``.
        path: common path of the two files, without suffix.
        args: the keyword arguments that the model was built with.
    """
    name = type(model).__name__
    assert name in MODELS, name
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    config_path, weights_path = checkpoint_files(path)
    partial = weights_path.with_name(f".{weights_path.name}.part")
    save_file(tensors, partial)
    partial.replace(weights_path)
    # The small file goes last: with it, the pair is complete.
    partial = config_path.with_name(f".{config_path.name}.part")
    partial.write_text(json.dumps({"name": name, "args": args}, indent=1) + "\n")
    partial.replace(config_path)


def build_described(config: dict[str, Any], where: Path) -> nn.Module:
    """Return the network that a json file describes, on the meta device (no memory for weights).

    Args:
        config: {"name": one of ``MODELS``, "args": its keyword arguments}.
        where: the json file, for messages.

    Raises:
        DatasetError: the name is unknown, or the arguments are those of another network.
    """
    name, args = config.get("name"), config.get("args")
    if name not in MODELS or not isinstance(args, dict):
        raise DatasetError(
            f"{where}: describes a model named {name!r}, a checkpoint of another architecture. "
            f"Expected one of {', '.join(MODELS)}, with its args; point to such a checkpoint."
        )
    try:
        with torch.device("meta"):
            return MODELS[name](**args)
    except TypeError as error:
        raise DatasetError(
            f"{where}: its args do not fit {name} ({error}), a checkpoint of another "
            "architecture. Expected the published arguments; point to another checkpoint."
        ) from None


def load_strictly(model: nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
    """Give a model on the meta device its tensors, each cast to the precision the model has for it.

    Args:
        model: from ``build_described``; it stores all of its buffers.
        tensors: (...), with exactly the names and shapes of the model's tensors.
        where: their file, for messages.

    Raises:
        DatasetError: the tensors are those of another network; the first that differ are named.
    """
    expected = model.state_dict()
    assert {key for key, _ in model.named_buffers()} <= expected.keys(), "a buffer is not stored"
    if misfits := find_misfits(expected, tensors):
        raise DatasetError(
            f"{where}: a checkpoint of another architecture than {type(model).__name__} with the "
            f"args beside it: {misfits} of {len(expected)} expected tensors. Point to the "
            "checkpoint that belongs to this json file."
        )
    model.load_state_dict(
        {key: tensor.to(expected[key].dtype) for key, tensor in tensors.items()}, assign=True
    )
