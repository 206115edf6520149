"""Sampled scenes of held-out views while a model trains: voxel IoU and images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datagen.core.seeding import rng_for
from datagen.models import SceneModel
from datagen.sampling.flow_euler import sample_flow
from datagen.training.objectives.objective import Scores
from datagen.training.objectives.structure.samples import SceneSample
from datagen.voxels.drawing import write_preview

PREVIEWS = "previews"


@dataclass(frozen=True)
class SampledView:
    """One sampled view of N instances."""

    sample: SceneSample
    """The held-out view."""
    predicted: NDArray[np.bool_]
    """(N + 1, 64, 64, 64), sampled voxels, the scene first."""
    true: NDArray[np.bool_]
    """(N + 1, 64, 64, 64), voxels that the decoder reconstructs from the true latents."""

    @property
    def iou_G(self) -> NDArray[np.float64]:
        """(N + 1,), intersection over union, the scene first; 1 where both are empty."""
        both = (self.predicted & self.true).sum(axis=(1, 2, 3))
        either = (self.predicted | self.true).sum(axis=(1, 2, 3))
        return np.where(either > 0, both / np.maximum(either, 1), 1.0)

    def draw(self, folder: Path, step: int) -> Path:
        """Write a PNG of the input beside sampled and true instances; return its path."""
        name = f"{self.sample.layout_id}_{self.sample.view_index}_step-{step:08d}.png"
        path = folder / PREVIEWS / name
        path.parent.mkdir(exist_ok=True)
        image = self.sample.scene_image
        opaque = np.full((*image.shape[:2], 1), 255, np.uint8)
        rgba = np.concatenate([image, opaque], axis=2)
        write_preview(path, rgba, self.predicted[1:], self.true[1:])
        return path


def score_views(
    decoder: nn.Module, model: SceneModel, samples: Sequence[SceneSample], folder: Path, step: int
) -> Scores:
    """Return the voxel IoU of held-out views, and draw them into ``folder``: see ``sampled_iou``.

    Args:
        decoder: decodes latents (1, 8, 16, 16, 16) to logits (1, 1, 64, 64, 64).
        model: samples latents.
        samples: the held-out views.
        folder: of the training.
        step: the current step, for the files' names.
    """
    views = [sample_view(model, decoder, sample) for sample in samples]
    return Scores(sampled_iou(views), tuple(view.draw(folder, step) for view in views))


@torch.no_grad()
def sample_view(model: SceneModel, decoder: nn.Module, sample: SceneSample) -> SampledView:
    """Sample all instances of a view, with the published 25 steps and guidance 3.

    A view gets the same noise each time. The true voxels are the decoder's reconstruction of the
    true latents, so a perfect flow model reaches an IoU of 1 whatever the autoencoder's error.
    """
    device = model.latent_mean.device
    images = np.stack([sample.scene_image, *sample.instance_images])
    cond = model.encode_images(torch.from_numpy(images)[None].to(device))
    latents = np.stack([sample.scene_latent, *sample.instance_latents]).astype(np.float32)
    rng = rng_for(0, "sampled", sample.layout_id, sample.view_index)
    noise = torch.from_numpy(rng.standard_normal(latents.shape, np.float32))[None].to(device)
    x_0 = sample_flow(model, noise, cond, torch.zeros_like(cond))
    return SampledView(
        sample,
        predicted=_occupied(decoder, model.denormalize(x_0)[0]),
        true=_occupied(decoder, torch.from_numpy(latents).to(device)),
    )


def sampled_iou(views: Sequence[SampledView]) -> dict[str, float]:
    """Return the mean voxel IoU of all instances, and of the scenes, by their names in the log."""
    ious = [view.iou_G for view in views]
    return {
        "sampled_iou_instances": float(np.concatenate([iou[1:] for iou in ious]).mean()),
        "sampled_iou_scene": float(np.mean([iou[0] for iou in ious])),
    }


def _occupied(decoder: nn.Module, latents: Tensor) -> NDArray[np.bool_]:
    """Return occupied voxels (N, 64, 64, 64) of latents (N, 8, 16, 16, 16).

    The grids are decoded one by one in float32: together they take more memory than sampling.
    """
    with torch.autocast(latents.device.type, enabled=False):
        logits = [decoder(latent[None].float())[0, 0] for latent in latents]
    return np.asarray((torch.stack(logits) > 0).cpu().numpy())
