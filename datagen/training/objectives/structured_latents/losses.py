"""The losses of the structured-latent model.

Shape suffixes: B views, K instances of each, M padded voxels, C channels.
"""

import torch
from torch import Tensor, nn

from datagen.models.sparse import Sites
from datagen.models.structured_latent_model import StructuredLatentModel
from datagen.training.config import FlowMatching
from datagen.training.objectives.flow_matching import (
    FlowDraw,
    noisy_latent,
    velocity,
    weigh_by_time,
)


class SlatLosses(nn.Module):
    """The losses of features and images as one module, which DDP wraps."""

    def __init__(self, flow: FlowMatching, model: StructuredLatentModel) -> None:
        super().__init__()
        self.flow, self.model = flow, model

    def forward(
        self, features: Tensor, images: Tensor, drawn: FlowDraw, coords: Tensor, counts: Tensor
    ) -> Tensor:
        """Return the loss of every instance (B, K), the mean over its voxels.

        Args:
            features: (B, K, M, C), raw, padded.
            images: (B, K, S, S, 3), uint8.
            drawn: times (B,), noise (B, K, M, 8) padded, and kept conditions (B,).
            coords: (B, K, M, 3), voxels, padded.
            counts: (B, K), voxels that are no padding.
        """
        B, K, M = coords.shape[:3]
        real = torch.arange(M, device=coords.device) < counts[..., None]
        sample = real.nonzero()[:, 0] * K + real.nonzero()[:, 1]
        sites = Sites(torch.cat([sample[:, None], coords[real].long()], dim=1).int(), B * K)
        with torch.autocast(coords.device.type, enabled=False):  # it is a matrix product
            x_0 = self.model.normalize(features[real])
        noise = drawn.noise[real]
        t = drawn.t_B.repeat_interleave(K)
        x_t = noisy_latent(x_0, noise, t[sample], self.flow.sigma_min)
        kept = drawn.keep_condition_B.reshape(-1, 1, 1, 1)
        cond = (self.model.encode_images(images) * kept).flatten(0, 1)
        v = self.model(x_t, 1000 * t, cond, sites)
        target = velocity(x_0, noise, self.flow.sigma_min)
        error = (v.float() - target).square().mean(dim=1)
        total = error.new_zeros(B * K).index_add(0, sample, error)
        loss_BK: Tensor = total.reshape(B, K) / counts
        return weigh_by_time(self.flow, loss_BK, drawn.t_B)
