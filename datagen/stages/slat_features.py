"""``encode --store slat_features``: features on the occupied voxels of each view.

The structured-latent model is trained on them; see ``datagen train --model slat-small``.
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
    """The features that are stored for the occupied voxels."""

    feature_encoder: str = "colors"
    """Features of image pixels. colors: their sRGB values, 3 channels; needs no weights. Otherwise
    the patch tokens of a frozen DINOv2: dinov2_vitl14_reg (as TRELLIS), a folder, a Hugging Face
    id, or a .pth file of torch.hub."""
    feature_views: int | None = None
    """Average over this number of kept views per scene, drawn at random. By default over all."""
    slat_encoder: str | None = content(
        lambda config: config.slat_encoder and weights_sha256(config.slat_encoder),
        default=None,
        with_value=True,
    )
    """TRELLIS's structured-latent encoder, slat_enc_swin8_B_64l8_fp16: a path without suffix, or a
    Hugging Face id. If given, its latents of 8 channels are stored instead of the features."""

    def __post_init__(self) -> None:
        if self.feature_views is not None and self.feature_views < 1:
            raise ConfigError(f"feature_views must be at least 1, got {self.feature_views}.")


class SlatFeatures:
    """Makes the ``slat_…`` columns of views. Each worker has one."""

    def __init__(self, config: SlatConfig, seed: int, device: torch.device) -> None:
        """Load the encoders.

        Raises:
            DatasetError: an encoder cannot be found, or ``slat_encoder`` is another network.
        """
        self._config, self._seed, self._device = config, seed, device
        self._encoder: FeatureEncoder = load_feature_encoder(config.feature_encoder, device)
        self._to_latents: SLatEncoder | None = None
        if config.slat_encoder is not None:
            self._to_latents = _load_slat_encoder(config.slat_encoder, device)

    def views_of(self, renders: Dataset, layout_id: int) -> list[FeatureView]:
        """Return the encoded views of a scene, from which its voxels get their features.

        Raises:
            DatasetError: the scene was rendered without depth.
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
        """Return the ``slat_…`` columns of one view.

        Args:
            views: from ``views_of``.
            occupancy: (N + 1, R, R, R), bool, scene first.
            world_to_canonical: (4, 4), z_up world in metres to the view's canonical frame.

        Raises:
            ConfigError: ``slat_encoder`` takes features of another number of channels.
        """
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
                f"encode: {renders.folder} holds no depth, which --store slat_features needs to "
                "find the visible voxels. Expected renders with depth; run "
                "`datagen render --passes depth --overwrite` first."
            )
        rgba, instance_map = decode_view(row)
        depth_z = read_depth(row["depth_z"], row["depth_unit_m"])
        camera = (row["world_to_camera"], row["intrinsics"])
        surface = surface_points(depth_z, instance_map, *camera)
        return FeatureView(self._encoder(rgba).to(self._device), surface)

    @torch.inference_mode()
    def _encode(self, features: torch.Tensor, voxels: VoxelTable) -> torch.Tensor:
        """Return the latents (V, 8) of features (V, C). Each slot is a batch element."""
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
