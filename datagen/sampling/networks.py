"""The networks that a scene is sampled with, loaded and checked."""

from dataclasses import dataclass
from typing import Any

import torch

from datagen.blender import BlenderProcess
from datagen.errors import DatasetError, StageError
from datagen.models import (
    SceneModel,
    SLatFlowModel,
    SLatGaussianDecoder,
    SLatMeshDecoder,
    find_scene_model,
    load_model,
    load_scene_model,
)
from datagen.sampling.appearance import LatentNetworks
from datagen.shards import Dataset


@dataclass(frozen=True)
class Networks:
    """Everything that samples a scene, on one device."""

    model: SceneModel
    """The structure model."""
    decoder: torch.nn.Module
    """Decodes its latents to occupancy logits."""
    latent: LatentNetworks | None = None
    """The latent model, for textured meshes. None: only structures are sampled."""
    blender: BlenderProcess | None = None
    """Renders the textured scene for the preview. None: the preview does without."""


LATENT_NETWORKS: dict[str, type[torch.nn.Module]] = {
    "slat_flow": SLatFlowModel,
    "slat_mesh_decoder": SLatMeshDecoder,
    "slat_gaussian_decoder": SLatGaussianDecoder,
}
"""Class of each network of the latent model, by the field that names its checkpoint."""


def load_latent_networks(paths: dict[str, str], device: torch.device) -> LatentNetworks | None:
    """Return the networks of the latent model, or None if there are no paths.

    Args:
        paths: paths without suffix or hub ids, by the keys of ``LATENT_NETWORKS``. The Gaussian
            decoder may be left out.
        device: where the networks go; on a CPU in float32.

    Raises:
        DatasetError: a checkpoint is missing, or holds another kind of network.
    """
    if not paths:
        return None
    loaded: dict[str, Any] = {"slat_gaussian_decoder": None}
    for role, path in paths.items():
        network = load_model(path, device=device)
        if not isinstance(network, LATENT_NETWORKS[role]):
            raise DatasetError(
                f"--{role.replace('_', '-')} {path}: holds a {type(network).__name__}. Expected a "
                f"{LATENT_NETWORKS[role].__name__}; give its checkpoint."
            )
        loaded[role] = network
    return LatentNetworks(
        loaded["slat_flow"], loaded["slat_mesh_decoder"], loaded["slat_gaussian_decoder"]
    )


def read_scene_model(model: Dataset, device: torch.device) -> SceneModel:
    """Return the structure model that a workspace's ``datagen train`` wrote, in evaluation mode.

    Args:
        model: the dataset of ``datagen train``.
        device: where the model goes.

    Raises:
        StageError: the dataset holds another network.
    """
    path = model.folder.path / "model"
    if find_scene_model(str(path)).kind != "trained":
        raise StageError(
            f"{model.folder} holds another network than `datagen train` writes. Expected a "
            "SceneModel; use another --root."
        )
    return load_scene_model(path, device=device)
