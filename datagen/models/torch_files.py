"""Weights in torch's own files (.pt, .pth), opened without running what they may hold."""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from datagen.errors import DatasetError

DDP_PREFIX = "module."


def read_torch_weights(path: Path) -> dict[str, Tensor]:
    """Return a state dict, on the CPU; the prefix of distributed training is taken off.

    Raises:
        DatasetError: the file is missing, damaged, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; expected a checkpoint. Check the path.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DatasetError(
            f"{path}: cannot be opened as tensors alone ({reason}), and nothing else in it is run. "
            "Expected a state dict as torch.save writes it; fetch the checkpoint again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DatasetError(
            f"{path}: holds a {type(state).__name__} that is no state dict. Expected tensors by "
            "name; export the model's state_dict."
        )
    return {str(key).removeprefix(DDP_PREFIX): tensor for key, tensor in state.items()}
