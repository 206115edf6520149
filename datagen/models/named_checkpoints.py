"""Checkpoints as fields name them: ``small`` (embedded), a path or a hub id; and their sha256."""

import hashlib
import logging
from pathlib import Path
from typing import Literal

import torch

from datagen.errors import DatasetError
from datagen.models.checkpoints import load_model
from datagen.models.weight_files import find_checkpoint, read_config

logger = logging.getLogger(__name__)

Role = Literal["encoder", "decoder", "model"]
"""What a network is used as: sparse-structure encoder, its decoder, or scene model."""

EMBEDDED = Path(__file__).parent / "weights"
EMBEDDED_NAMES: dict[Role, str] = {
    "encoder": "small_ss_enc",
    "decoder": "small_ss_dec",
    "model": "small_scene_model",
}

PUBLISHED_SHA256 = {
    "ss_enc_conv3d_16l8_fp16.safetensors": (
        "107874eeaa0feb82f51b19db5da7db534fb7e7f19e5a122b9ff1bc2e258bfc6d"
    ),
    "ss_dec_conv3d_16l8_fp16.safetensors": (
        "1c76d4a40519aa2d711cc263a8404105231ac26db31d946bed48b84fee79009a"
    ),
}
"""Of microsoft/TRELLIS-image-large at revision 25e0d31ffbebe4b5a97464dd851910efc3002d96."""


def resolve_checkpoint(name: str, role: Role) -> str:
    """Return the path or hub id of a checkpoint; ``small`` is the embedded one of the role."""
    return str(EMBEDDED / EMBEDDED_NAMES[role]) if name == "small" else name


def checkpoint_fingerprint(name: str, role: Role) -> str:
    """Return the sha256 (hex) of the weights of a sparse-structure encoder or decoder.

    Raises:
        DatasetError: there is no such checkpoint, or it holds another kind of network.
    """
    config, weights = find_checkpoint(resolve_checkpoint(name, role))
    kind = read_config(config).get("name", "nothing")
    if not kind.lower().endswith(f"structure{role}"):
        raise DatasetError(
            f"{name}: holds a {kind}, expected a sparse-structure {role}. Give --{role} small, or "
            f"a checkpoint such as TRELLIS's ss_{role[:3]}_conv3d_16l8_fp16."
        )
    digest = weights_sha256(resolve_checkpoint(name, role))
    check_published(name, weights.name, digest)
    return digest


def weights_sha256(name: str) -> str:
    """Return the sha256 (hex) of the weights of a checkpoint of any kind.

    Args:
        name: a path without suffix, or a hub id.

    Raises:
        DatasetError: there is no such checkpoint.
    """
    with find_checkpoint(name)[1].open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_published(name: str, file_name: str, digest: str) -> None:
    """Check weights against the published checksum of their file's name, where one is known.

    Other bytes under a published name are an error if they come from the published repository, and
    a warning otherwise.

    Args:
        name: the checkpoint, as the user named it.
        file_name: of its weights.
        digest: their sha256 (hex).

    Raises:
        DatasetError: the name is of TRELLIS's repository, and the bytes are not its own.
    """
    published = PUBLISHED_SHA256.get(file_name)
    if published in (None, digest):
        return
    if "TRELLIS-image-large" in name.split("/"):
        raise DatasetError(
            f"{name}: {file_name} has sha256 {digest}, expected the published {published}. "
            "The download is damaged, or the repository has changed: delete it and fetch it again, "
            "or give the path of weights that you trust under another name."
        )
    logger.warning(
        f"{name}: {file_name} differs from the published file of that name (sha256 "
        f"{digest[:12]}…, published {published[:12]}…); used as it is"
    )


def load_autoencoder(name: str, role: Role, device: torch.device) -> torch.nn.Module:
    """Return a sparse-structure encoder or decoder in evaluation mode.

    Args:
        name: ``small``, a path without suffix, or a hub id.
        role: which of the two.
        device: where it goes; on a CPU in float32.

    Raises:
        DatasetError: there is no such checkpoint, or it holds an unknown network.
    """
    return load_model(resolve_checkpoint(name, role), device=device)
