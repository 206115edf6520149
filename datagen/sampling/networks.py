"""The networks that sample scenes."""

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
from datagen.sampling.appearance import (
    LatentNetworks,
)
from datagen.shards import Dataset


@dataclass(frozen=True)
class Networks:
    """A model and its decoder, on their device."""

    model: SceneModel
    decoder: torch.nn.Module
    latent: LatentNetworks | None = None
    """For textured meshes; None where stage one alone is asked for."""
    blender: BlenderProcess | None = None
    """Renders the textured scene for its preview; None where that is not asked for."""


LATENT_NETWORKS: dict[str, type[torch.nn.Module]] = {
    "slat_flow": SLatFlowModel,
    "slat_mesh_decoder": SLatMeshDecoder,
    "slat_gaussian_decoder": SLatGaussianDecoder,
}


def load_latent_networks(paths: dict[str, str], device: torch.device) -> LatentNetworks | None:
    """Load the networks of the second stage, by role; None for no paths.

    Raises:
        DatasetError: one is not to be had, or another kind of network.
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
    """Load a workspace's trained model."""
    path = model.folder.path / "model"
    if find_scene_model(str(path)).kind != "trained":
        raise StageError(
            f"{model.folder} holds another network than `datagen train` writes. Expected a "
            "SceneModel; use another --root."
        )
    return load_scene_model(path, device=device)
