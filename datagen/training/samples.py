"""Training samples: a view's latents beside the images that condition them."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datagen.errors import DatasetError
from datagen.shards.schemas import LATENTS, read_tensor
from datagen.views.conditioning import condition_images


@dataclass(frozen=True)
class SceneSample:
    """One kept view: what is sampled, and what it is conditioned on."""

    layout_id: int
    view_index: int
    scene_latent: NDArray[np.float16]
    """(8, 16, 16, 16), the encoder's raw mean."""
    instance_latents: NDArray[np.float16]
    """(N, 8, 16, 16, 16), in the scene's frame."""
    scene_image: NDArray[np.uint8]
    """(S, S, 3), sRGB, background black."""
    instance_images: NDArray[np.uint8]
    """(N, S, S, 3), the same crop with one instance left."""

    @property
    def num_instances(self) -> int:
        return len(self.instance_latents)


def read_samples(
    latent_rows: Iterable[Mapping[str, Any]],
    render_rows: Iterable[Mapping[str, Any]],
    size_px: int,
) -> list[SceneSample]:
    """Join rows of the ``latents`` and ``renders`` datasets by view.

    Args:
        latent_rows: rows with the columns ``LATENTS``; each becomes a sample.
        render_rows: rows with the columns ``RENDERS``, in any order; views without latents
            (dropped ones) are passed over.
        size_px: side of the conditioning images.

    Returns:
        The samples, ordered by layout and view.

    Raises:
        DatasetError: a latent's view has no render.
    """
    latents = {(row["layout_id"], row["view_index"]): row for row in latent_rows}
    samples = {}
    for row in render_rows:
        key = (row["layout_id"], row["view_index"])
        if row["kept"] and key in latents:
            samples[key] = _sample(latents[key], row, size_px)
    missing = sorted(latents.keys() - samples.keys())
    if missing:
        raise DatasetError(
            f"latents: {len(missing)} of {len(latents)} views have no render (first: layout "
            f"{missing[0][0]}, view {missing[0][1]}). Expected the renders that they were encoded "
            "from; give both datasets of one workspace."
        )
    return [samples[key] for key in sorted(samples)]


def decode_view(row: Mapping[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.integer[Any]]]:
    """Return picture (H, W, 4) and instance map (H, W) of a kept row of ``renders``."""
    rgba = Image.open(io.BytesIO(row["rgb"])).convert("RGBA")
    return np.asarray(rgba), np.asarray(Image.open(io.BytesIO(row["instance_map"])))


def training_batch(
    samples: list[SceneSample],
    batch_size: int,
    instances_per_view: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw views, and the same number of instances from each, so that no batch needs padding.

    A view with fewer instances gives some twice. The scene branch costs the same for one instance
    as for all of them, and sees none of them: a subset is as good as the whole.

    Returns:
        Raw latents (B, K + 1, 8, 16, 16, 16) float32 and images (B, K + 1, S, S, 3) uint8, the
        scene first.
    """
    latents, images = [], []
    for index in rng.integers(len(samples), size=batch_size):
        sample = samples[index]
        order = rng.permutation(sample.num_instances)
        chosen = np.resize(order, instances_per_view)  # repeats the order from its start
        latents.append(np.stack([sample.scene_latent, *sample.instance_latents[chosen]]))
        images.append(np.stack([sample.scene_image, *sample.instance_images[chosen]]))
    return (
        torch.from_numpy(np.stack(latents).astype(np.float32)),
        torch.from_numpy(np.stack(images)),
    )


def latent_statistics(samples: list[SceneSample]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each latent channel, (8, 1, 1, 1) float32 each."""
    count, total, squares = 0, np.zeros(8), np.zeros(8)
    for sample in samples:
        for latents in (sample.scene_latent[None], sample.instance_latents):
            values = latents.astype(np.float64)
            count += values[:, 0].size
            total += values.sum(axis=(0, 2, 3, 4))
            squares += (values**2).sum(axis=(0, 2, 3, 4))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-8))
    return _channel_tensor(mean), _channel_tensor(std)


def _channel_tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).reshape(-1, 1, 1, 1)


def _sample(latent: Mapping[str, Any], render: Mapping[str, Any], size_px: int) -> SceneSample:
    rgba, instance_map = decode_view(render)
    scene_image, instance_images = condition_images(
        rgba, instance_map, latent["num_instances"], size_px
    )
    scene_latent, instance_latents = (
        read_tensor(LATENTS.field(name), latent[name]).astype(np.float16)
        for name in ("scene_latent", "instance_latents")
    )
    return SceneSample(
        layout_id=latent["layout_id"],
        view_index=latent["view_index"],
        scene_latent=scene_latent,
        instance_latents=instance_latents,
        scene_image=scene_image,
        instance_images=instance_images,
    )
