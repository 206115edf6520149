"""Sampling of structured latents on occupied voxels, for all instances of a scene at once.

Shapes: B instances, n voxels of one instance, T condition tokens, C channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datagen.models import SLatFlowModel
from datagen.models.sparse import Sites
from datagen.sampling.flow_euler import sample_flow
from datagen.sampling.scenes import SamplerConfig

SLAT_MEAN = (
    -2.1687545776367188,
    -0.004347046371549368,
    -0.13352349400520325,
    -0.08418072760105133,
    -0.5271206498146057,
    0.7238689064979553,
    -1.1414450407028198,
    1.2039363384246826,
)
SLAT_STD = (
    2.377650737762451,
    2.386378288269043,
    2.124418020248413,
    2.1748552322387695,
    2.663944721221924,
    2.371192216873169,
    2.6217446327209473,
    2.684523105621338,
)
"""Mean and standard deviation of TRELLIS's latents, a value per channel (``slat_normalization`` in
the pipeline.json of TRELLIS-image-large)."""


@dataclass(frozen=True)
class StructuredLatents:
    """Latents on the voxels of one instance."""

    coords: Tensor
    """(n, 3) int32, 0..63."""
    feats: Tensor
    """(n, 8) float32, denormalised for the decoders."""


@torch.inference_mode()
def sample_structured_latents(
    model: SLatFlowModel,
    voxels: Sequence[Tensor],
    cond: Tensor,
    config: SamplerConfig,
    generator: torch.Generator,
    *,
    max_voxels: int = 100_000,
    mean: Sequence[float] = SLAT_MEAN,
    std: Sequence[float] = SLAT_STD,
) -> list[StructuredLatents | None]:
    """Return the sampled latents of each instance, or None for an instance without voxels.

    Instances are sampled in chunks of at most ``max_voxels``.

    Args:
        model: in evaluation mode, on the device of ``cond``.
        voxels: B tensors (n, 3) int, the occupied voxels of each instance.
        cond: (B, T, C), image tokens, as the structure model was conditioned on.
        config: steps and guidance; published: 25 and 3.0.
        generator: of the noise, on the CPU. Noise is drawn for all voxels together, instance after
            instance, so the result does not depend on the chunks.
        max_voxels: voxels of one chunk; an instance with more is sampled alone.
        mean: of the latents that the model was trained on, one value per channel.
        std: their standard deviation, one value per channel.
    """
    counts = [len(one) for one in voxels]
    noise = torch.split(torch.randn(sum(counts), model.in_channels, generator=generator), counts)
    latents: list[StructuredLatents | None] = [None] * len(voxels)
    device = cond.device
    scale, shift = (torch.tensor(values, device=device) for values in (std, mean))
    for chunk in chunks_of(counts, max_voxels):
        sites = batch_sites([voxels[index] for index in chunk], device)
        x = torch.cat([noise[index] for index in chunk]).to(device)
        tokens = cond[chunk]

        def velocity(
            x: Tensor, t: Tensor, c: Tensor, sites: Sites = sites, size: int = len(chunk)
        ) -> Tensor:
            out: Tensor = model(x, t[:1].expand(size), c, sites)
            return out

        sampled = sample_flow(
            velocity,
            x,
            tokens,
            torch.zeros_like(tokens),
            steps=config.steps,
            cfg_strength=config.cfg_strength,
            cfg_interval=config.cfg_interval,
            rescale_t=config.rescale_t,
        )
        for index, feats in zip(
            chunk, torch.split(sampled, [counts[i] for i in chunk]), strict=True
        ):
            latents[index] = StructuredLatents(
                voxels[index].int().to(device), feats * scale + shift
            )
    return latents


def chunks_of(counts: Sequence[int], max_voxels: int) -> Iterator[list[int]]:
    """Yield chunks of instances with at most ``max_voxels`` together; empty instances are left out.

    Args:
        counts: voxels of each instance.
        max_voxels: of a chunk; an instance with more is a chunk of its own.
    """
    chunk: list[int] = []
    total = 0
    for index, count in enumerate(counts):
        if not count:
            continue
        if chunk and total + count > max_voxels:
            yield chunk
            chunk, total = [], 0
        chunk.append(index)
        total += count
    if chunk:
        yield chunk


def batch_sites(voxels: Sequence[Tensor], device: torch.device) -> Sites:
    """Return the sites of several instances' voxels (n, 3), each instance a sample."""
    numbered = [
        torch.nn.functional.pad(one.int(), (1, 0), value=sample)
        for sample, one in enumerate(voxels)
    ]
    return Sites(torch.cat(numbered).to(device), len(voxels))


def single_sites(latents: StructuredLatents) -> Sites:
    """Return the sites of one instance alone."""
    return batch_sites([latents.coords], latents.coords.device)
