"""The objective of the structured-latent model, the features' statistics, and how well it samples.

Rectified flow as in ``flow_matching``, on sites: N of all samples together, B views, K instances
of each, M padded voxels, C channels.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datagen.models.sparse import Sites
from datagen.models.structured_latent_model import StructuredLatentModel
from datagen.sampling.scenes import SamplerConfig
from datagen.sampling.structured_latents import sample_structured_latents
from datagen.training.config import FlowMatching
from datagen.training.objectives.structure import FlowDraw, noisy_latent
from datagen.training.objectives.structured_latent_samples import SlatSample


class SlatLosses(nn.Module):
    """The losses of features and images, as one module: what DDP wraps."""

    def __init__(self, flow: FlowMatching, model: StructuredLatentModel) -> None:
        super().__init__()
        self.flow, self.model = flow, model

    def forward(
        self, features: Tensor, images: Tensor, drawn: FlowDraw, coords: Tensor, counts: Tensor
    ) -> Tensor:
        """Return the loss of every instance (B, K), the mean over its voxels.

        Args:
            features: (B, K, M, C) raw, padded.
            images: (B, K, S, S, 3), uint8.
            drawn: times (B,), noise (B, K, M, 8) padded, and kept conditions.
            coords: (B, K, M, 3), padded.
            counts: (B, K), voxels that are no padding.
        """
        B, K, M = coords.shape[:3]
        real = torch.arange(M, device=coords.device) < counts[..., None]
        sample = real.nonzero()[:, 0] * K + real.nonzero()[:, 1]
        sites = Sites(torch.cat([sample[:, None], coords[real].long()], dim=1).int(), B * K)
        with torch.autocast(coords.device.type, enabled=False):  # a product of matrices, too
            x_0 = self.model.normalize(features[real])
        noise = drawn.noise[real]
        t = drawn.t_B.repeat_interleave(K)
        x_t = noisy_latent(x_0, noise, t[sample], self.flow.sigma_min)
        kept = drawn.keep_condition_B.reshape(-1, 1, 1, 1)
        cond = (self.model.encode_images(images) * kept).flatten(0, 1)
        v = self.model(x_t, 1000 * t, cond, sites)
        target = (1 - self.flow.sigma_min) * noise - x_0
        error = (v.float() - target).square().mean(dim=1)
        total = error.new_zeros(B * K).index_add(0, sample, error)
        loss_BK: Tensor = total.reshape(B, K) / counts
        if self.flow.t_floor:
            loss_BK = loss_BK * (drawn.t_B / self.flow.t_floor).clamp(max=1).square()[:, None]
        return loss_BK


def feature_statistics(
    views: Iterable[NDArray[np.float16]], channels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (C,), principal directions (C, channels) and spread (channels,) of features.

    The directions are those of the largest variance, each with its largest entry positive, so that
    the same data give the same ones. Where there are fewer than ``channels``, the rest are zeros
    of spread 1.

    Args:
        views: features (V, C) of each, read once and not kept.
        channels: how many directions.
    """
    count, total, squares = 0, np.zeros(1), np.zeros((1, 1))
    for features in views:
        values = features.astype(np.float64)
        count += len(values)
        total = total + values.sum(axis=0)
        squares = squares + values.T @ values
    mean = total / count
    variance, directions = np.linalg.eigh(squares / count - np.outer(mean, mean))
    variance, directions = variance[::-1][:channels], directions[:, ::-1][:, :channels]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    used = variance > 1e-8
    basis, std = np.zeros((len(mean), channels)), np.ones(channels)
    basis[:, : len(used)] = directions * used
    std[: len(used)][used] = np.sqrt(variance[used])
    parts = (torch.from_numpy(part.astype(np.float32)) for part in (mean, basis, std))
    mean_C, basis_CL, std_L = parts
    return mean_C, basis_CL, std_L


@torch.inference_mode()
def sampled_error(
    model: StructuredLatentModel, samples: Sequence[SlatSample], sampler: SamplerConfig
) -> float:
    """Return the mean squared error of sampled latents over the true ones' mean square.

    0 is perfect; 1 is what zeros get, the mean of all features; plain noise gets about 2.
    """
    device = model.feature_mean.device
    wrong, whole = 0.0, 0.0
    for index, sample in enumerate(samples):
        images = torch.from_numpy(sample.instance_images)[None].to(device)
        made = sample_structured_latents(
            model.flow,
            [torch.from_numpy(coords) for coords in sample.coords],
            model.encode_images(images)[0].float(),
            sampler,
            torch.Generator().manual_seed(index),
            mean=(0.0,) * model.flow.in_channels,
            std=(1.0,) * model.flow.in_channels,
        )
        for latents, features in zip(made, sample.features, strict=True):
            assert latents is not None  # every instance has a voxel
            true = model.normalize(torch.from_numpy(features).float().to(device))
            wrong += float((latents.feats - true).square().sum())
            whole += float(true.square().sum())
    return wrong / whole
