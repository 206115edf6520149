"""TRELLIS's encoder of structured latents: averaged image features to 8 channels per voxel."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from datagen.models.sparse import Sites
from datagen.models.structured_latent_decoders import SparseTransformer
from datagen.models.structured_latent_flow import convert_to_fp16


class SLatEncoder(SparseTransformer):
    """Encoder: features on voxels to the mean of their latent distribution."""

    def __init__(self, in_channels: int, latent_channels: int, **published: Any) -> None:
        """Build with the published arguments.

        Args:
            in_channels: of the features; 1024 for DINOv2 ViT-L.
            latent_channels: of the latents; 8.
            published: those of ``SparseTransformer``.
        """
        super().__init__(latent_channels=in_channels, **published)
        self.in_channels = in_channels
        self.out_layer = nn.Linear(self.input_layer.out_features, 2 * latent_channels)
        if self.use_fp16:
            convert_to_fp16(self.blocks)

    def forward(self, feats: Tensor, sites: Sites) -> Tensor:
        """Return the latents' means (N, 8) float32 of features (N, C) float32 on N sites."""
        h = self.transform(feats, sites).to(feats.dtype)
        mean: Tensor = self.out_layer(F.layer_norm(h, h.shape[-1:])).chunk(2, dim=1)[0]
        return mean
