"""Which checkpoint a field names, and on which device it runs."""

import hashlib
from pathlib import Path

import torch

from datagen.errors import ConfigError

EMBEDDED = Path(__file__).resolve().parents[1] / "models" / "weights"
EMBEDDED_NAMES = {("small", "encoder"): "small_ss_enc", ("small", "decoder"): "small_ss_dec"}


def resolve_checkpoint(name: str, role: str) -> str:
    """Return the path or hub id of a checkpoint; ``small`` is the embedded one of the role."""
    embedded = EMBEDDED_NAMES.get((name, role))
    return str(EMBEDDED / embedded) if embedded else name


def checkpoint_fingerprint(checkpoint: str) -> str:
    """Return the sha256 of a local checkpoint's weights, or the hub id itself."""
    weights = Path(f"{checkpoint}.safetensors")
    if not weights.is_file():
        return checkpoint
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def torch_device(name: str) -> torch.device:
    """Return the device of a ``--device`` flag; ``auto`` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: torch sees no GPU here. Expected one; use --device auto or cpu, "
            "or install a CUDA build of torch."
        )
    return torch.device(name)
