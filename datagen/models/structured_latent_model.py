"""The structured-latent model: an image encoder and a flow model of structured latents.

Shape suffixes: N sites of all samples together, B samples, T tokens, C channels.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datagen.core.seeding import seed_for
from datagen.models.image_encoder import ImageEncoder
from datagen.models.sparse import Sites
from datagen.models.structured_latent_flow import SLatFlowModel

SlatSize = Literal["slat-small"]

LATENT_CHANNELS = 8

SLAT_ARGS: dict[SlatSize, dict[str, Any]] = {
    "slat-small": {
        "flow": {
            "resolution": 64,
            "in_channels": LATENT_CHANNELS,
            "out_channels": LATENT_CHANNELS,
            "model_channels": 128,
            "cond_channels": 128,
            "num_blocks": 4,
            "num_heads": 4,
            "io_block_channels": [64],
            "qk_rms_norm": True,
        },
        "image_encoder": {"size_px": 128, "channels": 128, "num_blocks": 1, "num_heads": 2},
    },
}


class StructuredLatentModel(nn.Module):
    """Velocities of the latents on instances' voxels, given the instances' images.

    Latents are 8 fixed linear combinations of the voxels' features, each with mean 0 and standard
    deviation 1: see ``normalize``.
    """

    def __init__(
        self, flow: dict[str, Any], image_encoder: dict[str, Any], feature_channels: int
    ) -> None:
        """Build the parts.

        Args:
            flow: arguments of the flow model.
            image_encoder: arguments of the image encoder, which is trained together with it.
            feature_channels: C of the features that it is trained on.
        """
        super().__init__()
        self.flow = SLatFlowModel(**flow)
        self.image_encoder = ImageEncoder(**image_encoder)
        self.feature_mean: Tensor
        self.feature_basis: Tensor
        self.latent_std: Tensor
        channels = flow["in_channels"]
        self.register_buffer("feature_mean", torch.zeros(feature_channels))
        self.register_buffer("feature_basis", torch.eye(feature_channels, channels))
        self.register_buffer("latent_std", torch.ones(channels))

    def set_statistics(self, mean: Tensor, basis: Tensor, std: Tensor) -> None:
        """Set the statistics of the features.

        Args:
            mean: (C,).
            basis: (C, 8), orthonormal directions. A direction of zeros (C is below 8) gives latents
                that are always 0.
            std: (8,), standard deviation along each direction.
        """
        self.feature_mean.copy_(mean)
        self.feature_basis.copy_(basis)
        self.latent_std.copy_(std)

    def encode_images(self, images: Tensor) -> Tensor:
        """Return the tokens (B, G, T, C) of images (B, G, S, S, 3), uint8 sRGB."""
        tokens: Tensor = self.image_encoder(images)
        return tokens

    def forward(self, x: Tensor, t_times_1000: Tensor, cond: Tensor, sites: Sites) -> Tensor:
        """Return the velocities (N, 8) of noisy latents.

        Args:
            x: (N, 8), in the order of ``sites``.
            t_times_1000: (B,), the noise time of each sample, times 1000.
            cond: (B, T, C), image tokens.
            sites: of the B samples.
        """
        velocity: Tensor = self.flow(x, t_times_1000, cond, sites)
        return velocity

    def normalize(self, features: Tensor) -> Tensor:
        """Return the flow model's latents (N, 8) for features (N, C)."""
        return (features - self.feature_mean) @ self.feature_basis / self.latent_std

    def denormalize(self, x_0: Tensor) -> Tensor:
        """Return features (N, C) for latents (N, 8): ``normalize`` inverted, if C is at most 8."""
        return (x_0 * self.latent_std) @ self.feature_basis.T + self.feature_mean


def build_slat_model(args: Mapping[str, Any], seed: int) -> StructuredLatentModel:
    """Return a freshly initialised model of these arguments; the same seed gives the same weights.

    ``args`` are a size (see ``SLAT_ARGS``) and ``feature_channels``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "slat model"))
        return StructuredLatentModel(**args)
