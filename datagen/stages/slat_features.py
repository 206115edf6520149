"""What ``encode --store slat_features`` keeps: features on the voxels of a scene's views.

The structured-latent model is trained on them: see ``datagen train --model slat-small``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.core.fields import content
from datagen.core.frames import Floats
from datagen.core.seeding import rng_for
from datagen.errors import ConfigError, DatasetError
from datagen.models import SLatEncoder, load_model
from datagen.models.named_checkpoints import weights_sha256
from datagen.models.sparse import Sites
from datagen.models.voxel_features import (
    FeatureEncoder,
    FeatureView,
    average_features,
    load_feature_encoder,
)
from datagen.shards import Dataset, Row
from datagen.views.passes import decode_view, read_depth
from datagen.views.voxel_visibility import VoxelTable, surface_points

SLAT_FEATURES = "slat_features"
"""The word of ``--store``."""
_VIEW_COLUMNS = ["view_index", "kept", "world_to_camera", "intrinsics", "rgb", "instance_map"]
_DEPTH_COLUMNS = ["depth_z", "depth_unit_m"]


@dataclass(frozen=True, kw_only=True)
class SlatConfig:
    """Which features the voxels get."""

    feature_encoder: str = "colors"
    """colors (a picture's own sRGB, 3 channels; needs no weights), or a frozen DINOv2 whose patch
    tokens are taken: dinov2_vitl14_reg as TRELLIS, a folder, a hub id, torch.hub's .pth file."""
    feature_views: int | None = None
    """Average over this many of a scene's kept views, drawn at random; all by default."""
    slat_encoder: str | None = content(
        lambda config: config.slat_encoder and weights_sha256(config.slat_encoder),
        default=None,
        with_value=True,
    )
    """TRELLIS's encoder of structured latents (slat_enc_swin8_B_64l8_fp16: NAME, a path without
    suffix or a hub id). With it the 8 channels of its latents are stored instead of features."""

    def __post_init__(self) -> None:
        if self.feature_views is not None and self.feature_views < 1:
            raise ConfigError(f"feature_views must be at least 1, got {self.feature_views}.")


class SlatFeatures:
    """Makes the columns ``slat_…`` of views; one for a worker."""

    def __init__(self, config: SlatConfig, seed: int, device: torch.device) -> None:
        """Load the encoders.

        Raises:
            DatasetError: one is not to be had, or ``slat_encoder`` names another network.
        """
        self._config, self._seed, self._device = config, seed, device
        self._encoder: FeatureEncoder = load_feature_encoder(config.feature_encoder, device)
        self._to_latents: SLatEncoder | None = None
        if config.slat_encoder is not None:
            self._to_latents = _load_slat_encoder(config.slat_encoder, device)

    def views_of(self, renders: Dataset, layout_id: int) -> list[FeatureView]:
        """Read and encode the views that a scene's voxels are looked up in.

        Raises:
            DatasetError: they were rendered without depth.
        """
        rows = renders.rows_of(layout_id, _VIEW_COLUMNS + _DEPTH_COLUMNS)
        kept = [row for row in rows if row["kept"]]
        count = self._config.feature_views
        if count is not None and count < len(kept):
            rng = rng_for(self._seed, "slat_features", layout_id)
            kept = [kept[i] for i in sorted(rng.choice(len(kept), count, replace=False))]
        return [self._view(renders, row) for row in kept]

    def columns(
        self, views: list[FeatureView], occupancy: NDArray[np.bool_], world_to_canonical: Floats
    ) -> Row:
        """Return the columns of one view, given its voxels (N + 1, R, R, R), the scene first."""
        voxels = VoxelTable.of(occupancy, world_to_canonical)
        features, seen = average_features(views, voxels)
        counts = np.bincount(voxels.slots, minlength=len(occupancy))
        if self._to_latents is not None:
            features = self._encode(features, voxels)
        return {
            "slat_counts": counts.tolist(),
            "slat_coords": voxels.coords,
            "slat_features": features.cpu().numpy().astype(np.float16).ravel(),
            "slat_seen": seen,
        }

    def _view(self, renders: Dataset, row: Row) -> FeatureView:
        if row["depth_z"] is None:
            raise DatasetError(
                f"encode: {renders.folder} holds no depth, and --store slat_features asks which "
                "voxels a view shows. Expected renders with it; run "
                "`datagen render --passes depth --overwrite` first."
            )
        rgba, instance_map = decode_view(row)
        depth_z = read_depth(row["depth_z"], row["depth_unit_m"])
        camera = (row["world_to_camera"], row["intrinsics"])
        surface = surface_points(depth_z, instance_map, *camera)
        return FeatureView(self._encoder(rgba).to(self._device), surface)

    @torch.inference_mode()
    def _encode(self, features: torch.Tensor, voxels: VoxelTable) -> torch.Tensor:
        """Return the latents (V, 8) of features (V, C): each slot is a sample."""
        assert self._to_latents is not None
        if features.shape[1] != self._to_latents.in_channels:
            raise ConfigError(
                f"--slat-encoder {self._config.slat_encoder}: takes features of "
                f"{self._to_latents.in_channels} channels, --feature-encoder "
                f"{self._config.feature_encoder} gives {features.shape[1]}. Expected the image "
                "encoder that it was trained with, dinov2_vitl14_reg for the published one."
            )
        places = torch.from_numpy(np.column_stack([voxels.slots, voxels.coords]))
        sites = Sites(places.int().to(features.device), int(voxels.slots[-1]) + 1)
        latents: torch.Tensor = self._to_latents(features, sites)
        return latents


def _load_slat_encoder(name: str, device: torch.device) -> SLatEncoder:
    network = load_model(name, device=device)
    if not isinstance(network, SLatEncoder):
        raise DatasetError(
            f"--slat-encoder {name}: holds a {type(network).__name__}. Expected a SLatEncoder, "
            "such as TRELLIS's slat_enc_swin8_B_64l8_fp16."
        )
    return network
