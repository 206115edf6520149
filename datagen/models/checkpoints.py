"""Networks on disk: NAME.json {"name", "args"} beside NAME.safetensors, as TRELLIS stores them."""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
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
    """Build the network that a pair of files describes and load its weights strictly.

    Args:
        path_or_hf_id: the files' common path without suffix, or "OWNER/REPOSITORY/PATH" on the
            Hugging Face hub (cached; works offline once there).
        device: where the network goes.
        dtype: precision of every weight. None: as the architecture has it, but float32 on a CPU,
            where half precision is slow.

    Returns:
        The network in evaluation mode.

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
    """Write ``path``.safetensors and ``path``.json so that ``load_model(path)`` gives the model.

    ``args`` are the keyword arguments that the model was built with.
    """
    name = type(model).__name__
    assert name in MODELS, name
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    config_path, weights_path = _pair(path)
    partial = weights_path.with_name(f".{weights_path.name}.part")
    save_file(tensors, partial)
    partial.replace(weights_path)
    # The small file goes last: with it, the pair is complete.
    partial = config_path.with_name(f".{config_path.name}.part")
    partial.write_text(json.dumps({"name": name, "args": args}, indent=1) + "\n")
    partial.replace(config_path)


def build_described(config: dict[str, Any], where: Path) -> nn.Module:
    """Build the network of {"name", "args"} without memory for its weights."""
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
    """Give an unallocated model the tensors, each in the precision that the model has for it."""
    expected = model.state_dict()
    assert {key for key, _ in model.named_buffers()} <= expected.keys(), "a buffer is not stored"
    misshapen = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & tensors.keys()
        if tensors[key].shape != expected[key].shape
    ]
    problems = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - expected.keys()),
        "mis-shaped": sorted(misshapen),
    }
    found = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in problems.items() if keys]
    if found:
        raise DatasetError(
            f"{where}: a checkpoint of another architecture than {type(model).__name__} with the "
            f"args beside it: {'; '.join(found)} of {len(expected)} expected tensors. Point to "
            "the checkpoint that belongs to this json file."
        )
    model.load_state_dict(
        {key: tensor.to(expected[key].dtype) for key, tensor in tensors.items()}, assign=True
    )


def _first(keys: list[str], count: int = 3) -> str:
    return ", ".join(keys[:count]) + (", …" if len(keys) > count else "")


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the json and the safetensors file of a common path (dots in it are kept)."""
    return path.with_name(f"{path.name}.json"), path.with_name(f"{path.name}.safetensors")


def find_checkpoint(path_or_hf_id: str | Path) -> tuple[Path, Path]:
    """Return json and safetensors on this disk, fetched from the hub if it is no local path.

    Raises:
        DatasetError: one of them is not there, nor to be had.
    """
    pair = _pair(Path(path_or_hf_id))
    missing = [path for path in pair if not path.is_file()]
    if not missing:
        return pair
    parts = str(path_or_hf_id).split("/")
    is_hub_id = isinstance(path_or_hf_id, str) and len(parts) >= 3 and all(parts)
    if len(missing) == 1 or not is_hub_id or pair[0].parent.is_dir():
        raise DatasetError(
            f"{path_or_hf_id}: {missing[0].name} is not there. Expected {pair[0].name} beside "
            f"{pair[1].name}, or a hub id OWNER/REPOSITORY/PATH; give the path without suffix."
        )
    return _fetch("/".join(parts[:2]), "/".join(parts[2:]))


def _fetch(repository: str, name: str) -> tuple[Path, Path]:
    """Return the pair from the hub's cache, downloading what is missing there."""
    return fetch_file(repository, f"{name}.json"), fetch_file(repository, f"{name}.safetensors")


def fetch_file(repository: str, name: str) -> Path:
    """Return a file of the Hugging Face hub from its cache, downloading it if it is not there.

    Raises:
        DatasetError: it is not to be had.
    """
    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DatasetError(
            f"{repository}/{name}: neither a local path nor to be had from the Hugging Face hub "
            f"({reason}). Check the name and the network, or give the path of downloaded files."
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise DatasetError(f"{path}: is not JSON ({error}). Fetch the checkpoint again.") from None
    if not isinstance(config, dict):
        raise DatasetError(
            f"{path}: holds a JSON {type(config).__name__}. Expected {{name, args}}; point to a "
            "checkpoint's json file."
        )
    return config


def read_weights(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise DatasetError(
            f"{path}: is not a whole safetensors file ({error}). Fetch the checkpoint again."
        ) from None
    return tensors
