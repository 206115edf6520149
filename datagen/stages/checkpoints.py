"""Which checkpoint a field names, and on which device it runs."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from datagen.errors import ConfigError, DatasetError
from datagen.models import find_checkpoint, load_model
from datagen.models.denormals import denormals_flushed

Role = Literal["encoder", "decoder"]

EMBEDDED = Path(__file__).resolve().parents[1] / "models" / "weights"
EMBEDDED_NAMES: dict[Role, str] = {"encoder": "small_ss_enc", "decoder": "small_ss_dec"}


def resolve_checkpoint(name: str, role: Role) -> str:
    """Return the path or hub id of a checkpoint; ``small`` is the embedded one of the role."""
    return str(EMBEDDED / EMBEDDED_NAMES[role]) if name == "small" else name


def checkpoint_fingerprint(name: str, role: Role) -> str:
    """Return the sha256 of a checkpoint's weights.

    Raises:
        DatasetError: there is no such checkpoint, or it holds another kind of network.
    """
    config, weights = find_checkpoint(resolve_checkpoint(name, role))
    kind = json.loads(config.read_text()).get("name", "nothing")
    if not kind.lower().endswith(f"structure{role}"):
        raise DatasetError(
            f"{name}: holds a {kind}, expected a sparse-structure {role}. Give --{role} small, or "
            f"a checkpoint such as TRELLIS's ss_{role[:3]}_conv3d_16l8_fp16."
        )
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_autoencoder(name: str, role: Role, device: torch.device) -> torch.nn.Module:
    """Load a sparse-structure encoder or decoder, for inference."""
    return load_model(resolve_checkpoint(name, role), device=device).eval()


def torch_device(name: str) -> torch.device:
    """Return the device of a ``--device`` flag; ``auto`` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "optix":  # a way of Cycles' to use the same GPU
        name = "cuda"
    if name == "optix":  # a way of Cycles' to use the same GPU
        name = "cuda"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: torch sees no GPU here. Expected one; use --device auto or cpu, "
            "or install a CUDA build of torch."
        )
    return torch.device(name)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Give torch a worker's share of the cores within the block, and spare it denormals."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with denormals_flushed():
            yield
    finally:
        torch.set_num_threads(before)
