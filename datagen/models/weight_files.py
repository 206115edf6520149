"""Files of weights: found here or on the Hugging Face hub, and read without running their code."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from datagen.errors import DatasetError, first_line

DDP_PREFIX = "module."
"""Put before every name by torch's distributed training."""


def find_checkpoint(path_or_hf_id: str | Path) -> tuple[Path, Path]:
    """Return a checkpoint's json and safetensors file on this disk, fetched from the hub if needed.

    Args:
        path_or_hf_id: the files' common path without suffix, or "OWNER/REPOSITORY/PATH" on the
            Hugging Face hub.

    Raises:
        DatasetError: the files are neither here nor on the hub.
    """
    pair = checkpoint_files(Path(path_or_hf_id))
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
    repository, name = "/".join(parts[:2]), "/".join(parts[2:])
    return fetch_file(repository, f"{name}.json"), fetch_file(repository, f"{name}.safetensors")


def checkpoint_files(path: Path) -> tuple[Path, Path]:
    """Return the json and the safetensors file of a common path; dots in its name are kept."""
    return path.with_name(f"{path.name}.json"), path.with_name(f"{path.name}.safetensors")


def fetch_file(repository: str, name: str) -> Path:
    """Return a file of the Hugging Face hub from its cache, downloaded if it is not there.

    Raises:
        DatasetError: it cannot be downloaded.
    """
    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        raise DatasetError(
            f"{repository}/{name}: no local path, and the Hugging Face hub did not give it "
            f"({first_line(error)}). Expected one of them; check the name and the network, or give "
            "the path of downloaded files."
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file.

    Raises:
        DatasetError: the file holds something else.
    """
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
    """Return a file's tensors (...) by name, on the CPU.

    Args:
        path: a .safetensors file, or a state dict as ``torch.save`` writes it (.pt, .pth). The
            prefix of distributed training is removed from the latter's names.

    Raises:
        DatasetError: the file is missing, damaged, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file. Expected a checkpoint; check the path.")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise DatasetError(
            f"{path}: is not a whole safetensors file ({error}). Fetch the checkpoint again."
        ) from None
    return tensors


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DatasetError(
            f"{path}: cannot be opened as tensors ({first_line(error)}). Expected a state dict as "
            "torch.save writes it; other content is never run. Fetch the checkpoint again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DatasetError(
            f"{path}: holds a {type(state).__name__}, which is no state dict. Expected tensors by "
            "name; export the model's state_dict."
        )
    return {str(key).removeprefix(DDP_PREFIX): tensor for key, tensor in state.items()}


def find_misfits(expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> str:
    """Return in words which tensors differ from the expected ones in name or shape, or "".

    Each kind of difference is given with its number and the first three names.

    Args:
        expected: (...), by name.
        tensors: (...), by name.
    """
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
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for kind, names in problems.items()
        if names
    )
