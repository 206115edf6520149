"""Training samples of the structured-latent model: features on voxels, and their images.

Shape suffixes: N instances, V voxels of all slots together, M voxels of one instance, C channels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datagen.core.seeding import rng_for
from datagen.shards.declared import LATENTS, SLAT
from datagen.shards.tensors import read_tensor
from datagen.training.config import TrainConfig
from datagen.training.data.sources import RawView, SceneSource, corrupt, read_rows
from datagen.training.objectives.batches import Batch
from datagen.training.objectives.structure import FlowDraw, draw
from datagen.training.objectives.structure_samples import Resizing, SceneSample, decode_images

STATISTICS_VIEWS = 256
"""Views that the features' statistics are taken from: millions of voxels."""
SLAT_COLUMNS = ("layout_id", "view_index", "num_instances", *(column.name for column in SLAT[:3]))


class RawSlat(NamedTuple):
    """A row of ``latents`` with features, as it lies on disk."""

    where: str
    """Shard and row, for messages."""
    layout_id: int
    view_index: int
    num_instances: int
    slat_counts: list[int]
    slat_coords: bytes
    slat_features: bytes


class SlatSource(SceneSource):
    """The views of one workspace: where each one's features are."""

    def _read_latents(self, block: int) -> dict[int, RawSlat]:  # type: ignore[override]
        first, last = np.searchsorted(self.block, [block, block + 1])
        name = self.latents.manifest["shards"][self.shard[first]]["path"]
        columns = read_rows(self.latents, name, SLAT_COLUMNS, self.row[first:last])
        rows = zip(*(columns[column] for column in SLAT_COLUMNS), strict=True)
        return {
            index: RawSlat(f"{self.latents.folder}/{name}, row {self.row[index]}", *row)
            for index, row in zip(range(int(first), int(last)), rows, strict=True)
        }

    def sample_latents(self, max_views: int) -> Iterator[NDArray[np.float16]]:
        """Yield features (V, C) of about ``max_views`` views, evenly spread."""
        max_views = min(max_views, STATISTICS_VIEWS)
        num_blocks = int(self.block[-1]) + 1
        wanted = max(1, round(num_blocks * min(1, max_views / len(self))))
        for block in np.unique(np.linspace(0, num_blocks - 1, wanted).round().astype(int)):
            for raw in self._read_latents(int(block)).values():
                yield np.concatenate(decode_slat(raw)[1])

    @property
    def feature_channels(self) -> int:
        """C: read off the first view."""
        [raw, *_] = self._read_latents(0).values()
        return decode_slat(raw)[1][0].shape[1]


@dataclass(frozen=True)
class SlatSample:
    """One kept view: its instances' voxels and features, and what they are conditioned on."""

    layout_id: int
    view_index: int
    coords: Sequence[NDArray[np.uint8]]
    """N of (M, 3)."""
    features: Sequence[NDArray[np.float16]]
    """N of (M, C)."""
    instance_images: NDArray[np.uint8]
    """(N, S, S, 3), sRGB, background black."""

    @property
    def num_instances(self) -> int:
        return len(self.coords)

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        parts = sum(one.nbytes for one in self.coords) + sum(one.nbytes for one in self.features)
        return parts + self.instance_images.nbytes


AnySample = SceneSample | SlatSample


def decode_slat(
    raw: RawSlat,
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float16]]]:
    """Return voxels (M, 3) and features (M, C) of each instance; the scene's own are left out.

    Raises:
        DatasetError: they do not fit each other, or are not finite; shard and row are named.
    """
    schema = LATENTS.full_schema
    try:
        coords = read_tensor(schema.field("slat_coords"), raw.slat_coords).astype(np.uint8)
        flat = read_tensor(schema.field("slat_features"), raw.slat_features).astype(np.float16)
        features = flat.reshape(len(coords), -1)
    except (ValueError, TypeError) as error:  # bytes for another shape; null
        raise corrupt(raw, raw.where, f"its features cannot be used: {error}") from error
    counts = raw.slat_counts
    if len(counts) != raw.num_instances + 1 or sum(counts) != len(coords) or min(counts) < 1:
        problem = f"it counts {counts} voxels, has {len(coords)}, of {raw.num_instances} instances"
        raise corrupt(raw, raw.where, problem)
    if not np.isfinite(features).all():
        raise corrupt(raw, raw.where, "a feature is not finite")
    ends = np.cumsum(counts)[:-1]
    return np.split(coords, ends)[1:], np.split(features, ends)[1:]


def decode_slat_sample(view: RawView, size_px: int, resize: Resizing = "smooth") -> SlatSample:
    """Decode a view; arguments and errors as of ``decode_sample``."""
    raw: RawSlat = view.latents  # type: ignore[assignment]
    coords, features = decode_slat(raw)
    _, instance_images, _ = decode_images(view, size_px, resize)
    return SlatSample(raw.layout_id, raw.view_index, coords, features, instance_images)


@dataclass(frozen=True)
class SlatBatch(Batch):
    """Views of one step, their instances' voxels padded to a common number M, on the CPU.

    ``latents`` are features (B, K, M, C), ``images`` (B, K, S, S, 3), the noise (B, K, M, 8).
    """

    coords: Tensor
    """(B, K, M, 3) uint8."""
    counts: Tensor
    """(B, K): the voxels that are no padding, the first ones."""

    def __getitem__(self, chosen: slice) -> "SlatBatch":
        """Return some of the views."""
        views, latents, images = self.views[chosen], self.latents[chosen], self.images[chosen]
        drawn, coords, counts = self.drawn[chosen], self.coords[chosen], self.counts[chosen]
        return SlatBatch(views, latents, images, drawn, coords, counts)

    def inputs(self, device: str) -> tuple[Tensor | FlowDraw, ...]:
        """Return what ``SlatLosses`` takes, on a device."""
        return (*super().inputs(device), self.coords.to(device), self.counts.to(device))


def make_slat_batch(
    samples: Sequence[SlatSample],
    config: TrainConfig,
    channels: int,
    split: str,
    step: int,
    places: Iterable[int],
) -> SlatBatch:
    """Draw instances and all that is random for some views, as ``make_batch`` does.

    The noise of a view is drawn before it is padded: it depends on the view and its place alone.
    """
    rows, draws = [], []
    for sample, place in zip(samples, places, strict=True):
        rng = rng_for(config.seed, split, step, place)
        order = rng.permutation(sample.num_instances)
        chosen = np.resize(order, config.instances_per_view)
        most = max(len(sample.coords[index]) for index in chosen)
        shape = torch.Size((1, len(chosen), most, channels))
        draws.append(draw(config.flow, rng, shape))
        rows.append((sample, chosen, most))
    most = max(count for _, _, count in rows)
    return SlatBatch(
        views=tuple((sample.layout_id, sample.view_index) for sample in samples),
        latents=_stack([[s.features[i] for i in chosen] for s, chosen, _ in rows], most).float(),
        images=torch.from_numpy(np.stack([s.instance_images[chosen] for s, chosen, _ in rows])),
        drawn=FlowDraw.join(
            [FlowDraw(one.t_B, _pad(one.noise, most, 2), one.keep_condition_B) for one in draws]
        ),
        coords=_stack([[s.coords[i] for i in chosen] for s, chosen, _ in rows], most),
        counts=torch.tensor([[len(s.coords[i]) for i in chosen] for s, chosen, _ in rows]),
    )


def _stack(arrays: Sequence[Sequence[NDArray[np.generic]]], most: int) -> Tensor:
    """Return (B, K, most, c) of B lists of K arrays (M, c), zeros at the end."""
    parts = [[_pad(torch.from_numpy(array), most, 0) for array in view] for view in arrays]
    return torch.stack([torch.stack(view) for view in parts])


def _pad(tensor: Tensor, length: int, axis: int) -> Tensor:
    """Add zeros at the end of an axis."""
    shape = list(tensor.shape)
    shape[axis] = length - shape[axis]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)
