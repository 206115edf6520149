"""Features of voxels: image features averaged over the views that show each voxel.

M voxels, C channels, H and W height and width of an image, h and w of a feature map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datagen.models.dinov2 import DinoV2, load_dinov2
from datagen.views.voxel_visibility import SurfacePoints, VoxelTable

COLORS = "colors"
"""Name of the features that need no network: the images' own colours."""


class FeatureEncoder(Protocol):
    """Computes the feature map of one image."""

    def __call__(self, rgba: NDArray[np.uint8]) -> Tensor:
        """Return the map (C, h, w) float16 of an image (H, W, 4), straight alpha, sRGB."""


class ColorFeatures:
    """The colours themselves: sRGB on black in [0, 1], one cell per pixel."""

    def __call__(self, rgba: NDArray[np.uint8]) -> Tensor:
        """Return the map (3, H, W) float16."""
        return torch.from_numpy(on_black(rgba)).permute(2, 0, 1).half()


class DinoFeatures:
    """Patch features of a frozen DINOv2 before its last norm, as TRELLIS averages them."""

    def __init__(self, encoder: DinoV2) -> None:
        self._encoder = encoder

    def __call__(self, rgba: NDArray[np.uint8]) -> Tensor:
        """Return the map (C, S/14, S/14) float16 on the encoder's device, S its input size."""
        side = self._encoder.size_px
        resized = Image.fromarray(rgba).resize((side, side), Image.Resampling.LANCZOS)
        pixels = np.rint(255 * on_black(np.asarray(resized))).astype(np.uint8)
        return self._encoder.patch_features(torch.from_numpy(pixels)[None])[0].half()


def load_feature_encoder(name: str, device: torch.device) -> FeatureEncoder:
    """Return the feature encoder of a name.

    Args:
        name: ``colors``, or what ``load_dinov2`` takes.
        device: where the network goes.

    Raises:
        ConfigError: the transformers package is not installed.
        DatasetError: there are no such weights.
    """
    return ColorFeatures() if name == COLORS else DinoFeatures(load_dinov2(name, device))


def on_black(rgba: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return an image (H, W, 4) on black, as (H, W, 3) in [0, 1]."""
    pixels = rgba.astype(np.float32) / 255
    return pixels[..., :3] * pixels[..., 3:]


@dataclass(frozen=True)
class FeatureView:
    """One view, its feature map, and the surface it shows."""

    features: Tensor
    """(C, h, w)."""
    surface: SurfacePoints
    """What each pixel shows."""


@torch.inference_mode()
def average_features(
    views: Sequence[FeatureView], voxels: VoxelTable
) -> tuple[Tensor, NDArray[np.uint16]]:
    """Return the features (M, C) float32 of voxels, and how many views show each, (M,) uint16.

    A voxel's features are the mean over the views that show it. Each view's map is read, with
    bilinear interpolation, at the mean position of the pixels that show the voxel. A voxel that no
    view shows has the mean over all views whose image contains its centre, occluded or not;
    TRELLIS does so for every voxel.

    Args:
        views: at least one.
        voxels: M voxels, in the views' world frame.
    """
    device = views[0].features.device
    count = len(voxels.slots)
    seen_sum, whole_sum = torch.zeros(2, count, len(views[0].features), device=device)
    seen_count, whole_count = torch.zeros(2, count, 1, device=device)
    for view in views:
        shown, uv = voxels.shown_by(view.surface)
        inside = torch.from_numpy(np.flatnonzero(uv[:, 0] >= 0)).to(device)
        seen = torch.from_numpy(shown > 0).to(device)[inside]
        found = read_map(view.features, torch.from_numpy(uv).float().to(device)[inside])
        whole_sum[inside] += found
        whole_count[inside] += 1
        seen_sum[inside[seen]] += found[seen]
        seen_count[inside[seen]] += 1
    mean = torch.where(
        seen_count > 0, seen_sum / seen_count.clamp(min=1), whole_sum / whole_count.clamp(min=1)
    )
    return mean, seen_count[:, 0].cpu().numpy().astype(np.uint16)


def read_map(features: Tensor, uv: Tensor) -> Tensor:
    """Return the bilinear values (M, C) float32 of a map (C, h, w) at (M, 2) u, v in [0, 1]."""
    grid = (2 * uv - 1)[None, None]
    found = F.grid_sample(features[None].float(), grid, padding_mode="border", align_corners=False)
    return found[0, :, 0].T
