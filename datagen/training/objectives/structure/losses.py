"""The losses of the structure model.

Shape suffixes: B batch, G grids of one sample (the scene, then instances).
"""

from torch import Tensor, nn

from datagen.models import SceneModel
from datagen.training.config import FlowMatching
from datagen.training.objectives.flow_matching import (
    FlowDraw,
    noisy_latent,
    velocity,
    weigh_by_time,
)


class FlowLosses(nn.Module):
    """The losses of latents and images as one module, which DDP wraps."""

    def __init__(self, flow: FlowMatching, model: SceneModel) -> None:
        super().__init__()
        self.flow, self.model = flow, model

    def forward(self, latents: Tensor, images: Tensor, drawn: FlowDraw) -> Tensor:
        """Return the losses (B, G): see ``flow_losses``.

        Args:
            latents: (B, G, 8, R, R, R), raw, the scene first.
            images: (B, G, S, S, 3), uint8; or their tokens (B, G, T, C).
            drawn: times, noise and kept conditions.
        """
        return flow_losses(self.flow, self.model, self.model.normalize(latents), images, drawn)


def flow_losses(
    flow: FlowMatching, model: SceneModel, x_0: Tensor, images: Tensor, drawn: FlowDraw
) -> Tensor:
    """Return the loss of every grid (B, G); the loss of the batch is their mean.

    Args:
        flow: σ, and the weight of a small t.
        model: predicts the velocity from data to noise.
        x_0: (B, G, 8, R, R, R), normalised latents, the scene first.
        images: (B, G, S, S, 3), uint8; or their tokens (B, G, T, C), of any float type.
        drawn: times, noise and kept conditions.
    """
    x_t = noisy_latent(x_0, drawn.noise, drawn.t_B, flow.sigma_min)
    tokens = images.float() if images.is_floating_point() else model.encode_images(images)
    cond = tokens * drawn.keep_condition_B.reshape(-1, 1, 1, 1)
    v = model(x_t, 1000 * drawn.t_B, cond)
    target = velocity(x_0, drawn.noise, flow.sigma_min)
    loss_BG: Tensor = (v.float() - target).square().flatten(2).mean(dim=2)
    return weigh_by_time(flow, loss_BG, drawn.t_B)
