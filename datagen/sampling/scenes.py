"""Sampling of one scene: images in, occupancy logits of the scene and its instances out.

Shapes: N instances of a scene, n of them in one batch, S image side, T tokens, C channels, R latent
side.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datagen.errors import StageError, first_line
from datagen.models import SceneModel
from datagen.sampling.flow_euler import sample_flow
from datagen.views.conditioning import canonical_images, condition_images

logger = logging.getLogger(__name__)

_IMAGES_AT_ONCE = 8
"""Images that are encoded together."""

GRIDS_PER_DECODE = 4
"""Latents that are decoded together: few, because at 64³ decoding needs more than sampling."""

ACTIVATIONS_PER_TOKEN = 16
"""Values per token and channel that a block holds at most (12.2 measured at full size)."""

SHARE_OF_FREE_MEMORY = 0.6
"""Of a CPU's free memory, what sampling may use."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """The published sampler: 25 steps, guidance 3.0 in TRELLIS's form."""

    steps: int = 25
    """Euler steps."""
    cfg_strength: float = 3.0
    """w in (1 + w)·v(cond) - w·v(uncond)."""
    cfg_interval: tuple[float, float] = (0.5, 1.0)
    """Noise times with guidance, both ends included."""
    rescale_t: float = 3.0
    """Above 1, steps are smaller near the noise."""
    independent_noise: bool = False
    """Whether each instance has its own noise; I-Scene's release lets all share one."""


@dataclass(frozen=True)
class SceneImages:
    """The images that a model is conditioned on."""

    scene: NDArray[np.uint8]
    """(S, S, 3), sRGB, black background."""
    instances: NDArray[np.uint8]
    """(N, S, S, 3), the same crop with one instance each."""
    local: NDArray[np.uint8] | None = None
    """(N, S, S, 3), each instance in its own crop, for models with a local slot."""

    @classmethod
    def cut(
        cls,
        model: SceneModel,
        rgba: NDArray[np.uint8],
        instance_map: NDArray[np.integer[Any]],
        num_instances: int,
    ) -> "SceneImages":
        """Return an image's crops in the size of the model's image encoder.

        Args:
            model: the structure model.
            rgba: (H, W, 4), straight alpha, sRGB.
            instance_map: (H, W), 0 for background, i + 1 for instance i.
            num_instances: N.

        Raises:
            RowError: the map is all background.
        """
        encoder = model.conditioner
        arguments = (rgba, instance_map, num_instances, encoder.size_px, encoder.resize)
        scene, instances = condition_images(*arguments)
        return cls(scene, instances, canonical_images(*arguments) if model.local_slot else None)

    def stack(self, chosen: slice) -> NDArray[np.uint8]:
        """Return images (1 + n or 1 + 2n, S, S, 3): scene, chosen instances, their own crops."""
        local = [] if self.local is None else [self.local[chosen]]
        return np.concatenate([self.scene[None], self.instances[chosen], *local])


@torch.inference_mode()
def sample_scene(
    model: SceneModel,
    decoder: nn.Module,
    images: SceneImages,
    config: SamplerConfig,
    seed: int,
    *,
    max_batch: int | None = None,
    tokens: Tensor | None = None,
) -> NDArray[np.float32]:
    """Return occupancy logits (N + 1, 64, 64, 64), the scene first; above 0 is occupied.

    All instances go through the network together, with one scene branch for all of them. If the
    memory does not suffice, they go in several batches, each beside the scene. The scene never
    attends to the instances, so the results are the same.

    Args:
        model: the trained structure model; its device is used.
        decoder: latents (G, 8, 16, 16, 16) to logits (G, 1, 64, 64, 64), on the same device.
        images: as ``SceneImages.cut`` returns them.
        config: steps and guidance.
        seed: of the noise. It is drawn on the CPU, so it is the same for every device.
        max_batch: most instances in one batch. None: as many as fit the free memory.
        tokens: of the images, as ``image_tokens`` returns them. None: they are encoded here.

    Raises:
        StageError: one instance and its scene need more than the GPU's memory.
    """
    num_instances = len(images.instances)
    noise = _draw_noise(num_instances, config.independent_noise, seed)
    batch = max_batch or instances_that_fit(model, num_instances)
    logits: list[NDArray[np.float32]] = []
    done = 0
    while done < num_instances:
        chosen = slice(done, done + batch)
        try:
            cond = _conditions(model, images, chosen, tokens)
            made = _sample_batch(model, decoder, cond, noise(chosen), config)
        except torch.OutOfMemoryError as error:
            batch = _smaller(min(batch, num_instances - done), error)
            continue
        logits += [made[:1]] * (not done) + [made[1 : 1 + len(images.instances[chosen])]]
        done = chosen.stop
    return np.concatenate(logits)


@torch.inference_mode()
def image_tokens(model: SceneModel, images: SceneImages) -> Tensor:
    """Return the tokens (1 + N or 1 + 2N, T, C) of all images, in the order of ``stack``."""
    device = model.latent_mean.device
    stack = torch.from_numpy(images.stack(slice(None)))
    parts = torch.split(stack, _IMAGES_AT_ONCE)
    return torch.cat([model.encode_images(part[None].to(device))[0] for part in parts])


def _conditions(
    model: SceneModel, images: SceneImages, chosen: slice, tokens: Tensor | None
) -> Tensor:
    """Return the tokens (1, 1 + n or 1 + 2n, T, C) of the scene and the chosen instances."""
    if tokens is None:
        stack = torch.from_numpy(images.stack(chosen))
        return model.encode_images(stack[None].to(model.latent_mean.device))
    first, num_instances = 1, len(images.instances)
    rows = [0]
    while first < len(tokens):  # the instances' slots, then their local slots
        rows += [first + index for index in range(num_instances)[chosen]]
        first += num_instances
    return tokens[rows][None]


def instances_that_fit(model: SceneModel, num_instances: int) -> int:
    """Return how many of the instances go into one batch, at least 1.

    On a GPU all of them: torch raises an error when the memory is full, and the batch is halved. On
    a CPU as many as fit the free memory, because a process that takes too much is killed.
    """
    free = _free_bytes() if model.latent_mean.device.type == "cpu" else None
    if free is None:
        return max(num_instances, 1)
    flow = model.flow
    tokens, channels = flow.pos_emb.shape
    a_grid = 4 * tokens * channels * ACTIVATIONS_PER_TOKEN * (3 if model.local_slot else 1)
    fit = max(int(SHARE_OF_FREE_MEMORY * free / a_grid) - 1, 1)
    if fit < num_instances:
        logger.info(
            f"infer: the free memory holds {fit} of the {num_instances} instances at a time"
        )
    return max(min(fit, num_instances), 1)


def _draw_noise(num_instances: int, independent: bool, seed: int) -> "_Noise":
    generator = torch.Generator().manual_seed(seed)
    # In the order of the released slots, so that a seed gives the same noise as in the release.
    instance, scene, local = torch.randn(3, 1, 8, 16, 16, 16, generator=generator)
    shape = (num_instances, -1, -1, -1, -1)
    if not independent:
        return _Noise(scene, instance.expand(shape), local.expand(shape))
    more = torch.randn(2, num_instances - 1, 8, 16, 16, 16, generator=generator)
    return _Noise(scene, torch.cat([instance, more[0]]), torch.cat([local, more[1]]))


@dataclass(frozen=True)
class _Noise:
    """Noise of the scene (1, 8, R, R, R), and of N instances and their local slots."""

    scene: Tensor
    instances: Tensor
    local: Tensor

    def __call__(self, chosen: slice) -> Tensor:
        """Return noise (1 + 2n, 8, R, R, R): of scene, chosen instances, their local slots."""
        return torch.cat([self.scene, self.instances[chosen], self.local[chosen]])


def _sample_batch(
    model: SceneModel,
    decoder: nn.Module,
    cond: Tensor,
    noise: Tensor,
    config: SamplerConfig,
) -> NDArray[np.float32]:
    """Return the logits (1 + n, 64, 64, 64) of a scene and some of its instances."""
    device = model.latent_mean.device
    x_0 = sample_flow(
        model,
        noise[None, : cond.shape[1]].to(device),
        cond,
        torch.zeros_like(cond),
        steps=config.steps,
        cfg_strength=config.cfg_strength,
        cfg_interval=config.cfg_interval,
        rescale_t=config.rescale_t,
    )
    latents = model.denormalize(x_0)[0]
    starts = range(0, len(latents), GRIDS_PER_DECODE)
    parts = [decoder(latents[i : i + GRIDS_PER_DECODE])[:, 0].float().cpu() for i in starts]
    return np.asarray(torch.cat(parts).numpy())


def _smaller(batch: int, error: torch.OutOfMemoryError) -> int:
    """Return half the size of a batch that did not fit the GPU's memory.

    Raises:
        StageError: it was a single instance.
    """
    if batch <= 1:
        raise StageError(
            "infer: GPU out of memory with one instance and its scene "
            f"({first_line(error)}). Expected a GPU with more free memory; "
            "stop other programs that use it, or use --device cpu."
        ) from error
    torch.cuda.empty_cache()
    fits = batch // 2
    logger.warning(
        f"infer: GPU out of memory with {batch} instances at once; continuing with {fits} at a "
        f"time (--max-batch {fits} avoids the failed attempt)"
    )
    return fits


def _free_bytes() -> int:
    """Return the bytes of memory that are available to new data."""
    return int(psutil.virtual_memory().available)
