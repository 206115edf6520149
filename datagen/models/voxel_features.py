"""Features of voxels: the average of image features over the views that show each of them.

M voxels, C channels.
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
"""Name of the features that need no weights."""


class FeatureEncoder(Protocol):
    """Makes a map of features of one picture."""

    def __call__(self, rgba: NDArray[np.uint8]) -> Tensor:
        """Return (C, h, w) float16 of a picture (H, W, 4), straight alpha, sRGB."""


class ColorFeatures:
    """A picture's own sRGB on black, in [0, 1]: three channels, pixel by pixel."""

    def __call__(self, rgba: NDArray[np.uint8]) -> Tensor:
        """Return (3, H, W) float16."""
        return torch.from_numpy(on_black(rgba)).permute(2, 0, 1).half()


class DinoFeatures:
    """Patch tokens of a frozen DINOv2 before its last norm, as TRELLIS averages them."""

    def __init__(self, encoder: DinoV2) -> None:
        self._encoder = encoder

    def __call__(self, rgba: NDArray[np.uint8]) -> Tensor:
        """Return (C, S / 14, S / 14) float16, on the encoder's device."""
        side = self._encoder.size_px
        resized = Image.fromarray(rgba).resize((side, side), Image.Resampling.LANCZOS)
        pixels = np.rint(255 * on_black(np.asarray(resized))).astype(np.uint8)
        return self._encoder.patch_features(torch.from_numpy(pixels)[None])[0].half()


def load_feature_encoder(name: str, device: torch.device) -> FeatureEncoder:
    """Return the encoder of a name: ``colors``, or what ``load_dinov2`` takes."""
    return ColorFeatures() if name == COLORS else DinoFeatures(load_dinov2(name, device))


def on_black(rgba: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a picture (H, W, 4) over black, (H, W, 3) in [0, 1]."""
    pixels = rgba.astype(np.float32) / 255
    return pixels[..., :3] * pixels[..., 3:]


@dataclass(frozen=True)
class FeatureView:
    """One view that voxels may be seen in."""

    features: Tensor
    """(C, h, w)."""
    surface: SurfacePoints


@torch.inference_mode()
def average_features(
    views: Sequence[FeatureView], voxels: VoxelTable
) -> tuple[Tensor, NDArray[np.uint16]]:
    """Return the features (M, C) float32 of voxels, and how many views show each (M,).

    A voxel's features are the mean over the views that show it, each read, between the map's cells
    bilinearly, where the pixels that show it lie on average. A voxel that no view shows takes the
    mean over all views that its centre falls into, whatever stands before it: for all voxels
    alike, that is TRELLIS's rule, which knows no visibility.
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
    """Return what a map (C, h, w) holds at places (M, 2), 0..1: (M, C) float32."""
    grid = (2 * uv - 1)[None, None]
    found = F.grid_sample(features[None].float(), grid, padding_mode="border", align_corners=False)
    return found[0, :, 0].T
