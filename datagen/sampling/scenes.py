"""Sampling one scene: images in, occupancy logits of the scene and its instances out."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datagen.models import SceneModel
from datagen.sampling.flow_euler import sample_flow


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """The published sampler: 25 steps, guidance 3.0 in TRELLIS's form."""

    steps: int = 25
    """Euler steps."""
    cfg_strength: float = 3.0
    """w in (1 + w)·v(cond) - w·v(uncond)."""
    cfg_interval: tuple[float, float] = (0.5, 1.0)
    """Guided only for t inside it."""
    rescale_t: float = 3.0
    """Above 1, steps are finer near the noise."""


@torch.inference_mode()
def sample_scene(
    model: SceneModel,
    decoder: nn.Module,
    scene_image: NDArray[np.uint8],
    instance_images: NDArray[np.uint8],
    config: SamplerConfig,
    seed: int,
) -> NDArray[np.float32]:
    """Return occupancy logits (N + 1, 64, 64, 64), the scene first; above 0 is occupied.

    All instances start from the same noise, as I-Scene released it; the scene from its own.

    Args:
        model: trained; its device is used.
        decoder: latents (G, 8, 16, 16, 16) to logits (G, 1, 64, 64, 64), on the same device.
        scene_image: (S, S, 3), as ``condition_images`` gives it.
        instance_images: (N, S, S, 3).
        config: steps and guidance.
        seed: of the noise, which is drawn on the CPU and so the same on every device.
    """
    device = model.latent_mean.device
    images = torch.from_numpy(np.stack([scene_image, *instance_images]))[None].to(device)
    num_instances = len(instance_images)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, 8, 16, 16, 16, generator=generator).to(device)
    noise = torch.cat([noise[:1], noise[1:].expand(num_instances, -1, -1, -1, -1)])[None]
    cond = model.encode_images(images)
    x_0 = sample_flow(
        model,
        noise,
        cond,
        torch.zeros_like(cond),
        steps=config.steps,
        cfg_strength=config.cfg_strength,
        cfg_interval=config.cfg_interval,
        rescale_t=config.rescale_t,
    )
    logits = decoder(model.denormalize(x_0)[0])
    return np.asarray(logits[:, 0].float().cpu().numpy())
