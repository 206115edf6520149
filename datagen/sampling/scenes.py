"""Sampling one scene: images in, occupancy logits of the scene and its instances out."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datagen.errors import StageError
from datagen.models import SceneModel
from datagen.sampling.flow_euler import sample_flow
from datagen.views.conditioning import canonical_images, condition_images

logger = logging.getLogger(__name__)

IMAGES_AT_ONCE = 8
GRIDS_PER_DECODE = 4
"""Decoding works at 64³: few grids at once keep it below what sampling takes."""

ACTIVATIONS_PER_TOKEN = 16
"""Numbers a token and channel that a block holds at its widest (12.2 measured at full size)."""

SHARE_OF_FREE_MEMORY = 0.6


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
    independent_noise: bool = False
    """Every instance from noise of its own; else all from the same, as I-Scene released it."""


@dataclass(frozen=True)
class SceneImages:
    """What a model is conditioned on."""

    scene: NDArray[np.uint8]
    """(S, S, 3), sRGB, background black."""
    instances: NDArray[np.uint8]
    """(N, S, S, 3), the same crop with one instance left."""
    local: NDArray[np.uint8] | None = None
    """(N, S, S, 3), crops of their own, for models with a local slot."""

    @classmethod
    def cut(
        cls,
        model: SceneModel,
        rgba: NDArray[np.uint8],
        instance_map: NDArray[np.integer[Any]],
        num_instances: int,
    ) -> "SceneImages":
        """Cut a picture (H, W, 4) by its instance map (H, W) as the model's encoder wants it.

        Raises:
            RowError: the map is all background.
        """
        encoder = model.conditioner
        arguments = (rgba, instance_map, num_instances, encoder.size_px, encoder.resize)
        scene, instances = condition_images(*arguments)
        return cls(scene, instances, canonical_images(*arguments) if model.local_slot else None)

    def stack(self, chosen: slice) -> NDArray[np.uint8]:
        """Return the scene's image, then the chosen instances', (1 + n or 1 + 2n, S, S, 3)."""
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

    All instances go through the network at once, with one scene branch for all of them. Where that
    takes too much memory they go in several batches, each with the scene beside it: the scene never
    sees the instances, so it comes out the same, and so do they.

    Args:
        model: trained; its device is used.
        decoder: latents (G, 8, 16, 16, 16) to logits (G, 1, 64, 64, 64), on the same device.
        images: as ``SceneImages.cut`` gives them.
        config: steps and guidance.
        seed: of the noise, which is drawn on the CPU and so the same on every device.
        max_batch: most instances at once. None: as many as the free memory holds.
        tokens: of the images, as ``image_tokens`` returns them. None: they are encoded here.

    Raises:
        StageError: not even one instance fits the GPU's memory.
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
    parts = torch.split(stack, IMAGES_AT_ONCE)
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
    while first < len(tokens):  # the instances' own slots, then their local ones
        rows += [first + index for index in range(num_instances)[chosen]]
        first += num_instances
    return tokens[rows][None]


def instances_that_fit(model: SceneModel, num_instances: int) -> int:
    """Return how many instances go at once: all on a GPU, which says itself when it is full.

    A CPU's memory has to be asked before: a process that takes too much is killed.
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
            f"infer: {num_instances} instances go {fit} at a time, that is what fits the memory"
        )
    return max(min(fit, num_instances), 1)


def _draw_noise(num_instances: int, independent: bool, seed: int) -> "_Noise":
    generator = torch.Generator().manual_seed(seed)
    # In the order of the released slots, so that a seed means what it means there.
    instance, scene, local = torch.randn(3, 1, 8, 16, 16, 16, generator=generator)
    shape = (num_instances, -1, -1, -1, -1)
    if not independent:
        return _Noise(scene, instance.expand(shape), local.expand(shape))
    more = torch.randn(2, num_instances - 1, 8, 16, 16, 16, generator=generator)
    return _Noise(scene, torch.cat([instance, more[0]]), torch.cat([local, more[1]]))


@dataclass(frozen=True)
class _Noise:
    scene: Tensor
    instances: Tensor
    local: Tensor

    def __call__(self, chosen: slice) -> Tensor:
        """Return (1 + 2n, 8, R, R, R): the scene's, the chosen instances', their local slots'."""
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
    """Return half the batch that did not fit.

    Raises:
        StageError: it was one instance.
    """
    if batch <= 1:
        raise StageError(
            "infer: GPU out of memory with one instance and its scene "
            f"({str(error).splitlines()[0]}). Expected a GPU with more free memory; "
            "stop what else runs on it, or use --device cpu."
        ) from error
    torch.cuda.empty_cache()
    fits = batch // 2
    logger.warning(
        f"infer: GPU out of memory with {batch} instances at once; going on with {fits} at a time "
        f"(--max-batch {fits} spares the attempt)"
    )
    return fits


def _free_bytes() -> int | None:
    """Return the memory that this machine can still give, where it says so (Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
