"""``datagen encode``: view-centric voxels of every kept view, and their latents."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.core.fields import ABSENT, content, resolved
from datagen.core.frames import Floats
from datagen.core.seeding import rng_for
from datagen.engine.stage import Inputs
from datagen.engine.units import Process, UnitStage, WorkerContext
from datagen.errors import ConfigError, DatasetError, RowError, StageError
from datagen.models.devices import torch_device, torch_threads
from datagen.models.dinov2 import DINOV2_LARGE, load_dinov2
from datagen.models.named_checkpoints import checkpoint_fingerprint, load_autoencoder
from datagen.shards import Dataset, Folder, Output, Row
from datagen.shards.declared import ASSETS, GRID_BYTES, LATENT_SHAPE, LATENTS, LAYOUTS, RENDERS
from datagen.shards.scenes import SceneMeshes, SceneReader
from datagen.shards.tables import Table
from datagen.stages.slat_features import SLAT_FEATURES, SlatConfig, SlatFeatures
from datagen.training.data import image_tokens
from datagen.views.passes import decode_view
from datagen.voxels import pack_occupancy, view_centric_transform, voxelize_views

Storable = Literal["latents", "occupancy", "image_tokens", "slat_features"]
AddColumns = Callable[[NDArray[np.bool_], Floats], Row]
"""Returns further columns of a view's row.

Takes the view's voxels (N + 1, 64, 64, 64), scene first, and its ``world_to_canonical`` (4, 4).
"""
BATCHES_AHEAD = 4
"""Batches that are voxelised together, ahead of the encoder: 32 MiB at 32 grids per batch."""


@dataclass(frozen=True, kw_only=True)
class EncodeLatents(UnitStage):
    """Voxelise the scene of each kept view at 64³ in its view-centric frame, and encode the voxels.

    Voxels are reproducible to the byte. Latents are rounded to float16; their last bit may differ
    between processors.
    """

    name: ClassVar[str] = "encode"
    table: ClassVar[Table] = LATENTS
    revision: ClassVar[int] = 2
    reads: ClassVar[tuple[Table, ...]] = (ASSETS, LAYOUTS, RENDERS)
    uses_gpu: ClassVar[bool] = True

    encoder: str = content(
        lambda stage: stage._fingerprint_of_encoder(), default="small", with_value=True
    )
    """The sparse-structure encoder: ``small`` (embedded in datagen), a path without suffix (NAME
    for NAME.json and NAME.safetensors), or a Hugging Face id."""
    view_frame: Literal["yaw", "camera", "world"] = "yaw"
    """Rotation from the world to the canonical frame of a view. yaw: about the up axis, by the
    camera's azimuth. camera: the camera's full rotation. world: none; all views of a scene then
    have the same latents, and an image does not tell the direction of X."""
    store: tuple[Storable, ...] = ("latents", "occupancy")
    """What is stored for each view. latents: for training; 64 kB per instance. occupancy: voxels as
    bits, for previews and evaluation; 32 kB per instance before compression. image_tokens: output
    of --image-encoder, so that training does not run the encoder; 2.8 MB per image. slat_features:
    features of the occupied voxels, for training the structured-latent model."""
    image_encoder: str = content(
        lambda stage: stage._fingerprint_of_image_encoder(),
        DINOV2_LARGE,
        name=image_tokens.INPUT,
    )
    """The image encoder for image_tokens: dinov2_vitl14_reg, a folder, a Hugging Face id, or a .pth
    file of torch.hub. Its weights, not its path, are part of the dataset's identity."""
    slat: SlatConfig = resolved(
        lambda stage: stage.slat if SLAT_FEATURES in stage.store else ABSENT,
        default_factory=SlatConfig,
    )
    """Settings of slat_features."""
    views_per_scene: int | None = None
    """Number of kept views to encode per scene, drawn at random. By default all."""
    solid: bool = False
    """Also fill the voxels inside each instance's surface. By default only surface voxels are
    occupied, as in TRELLIS."""
    batch_size: int = 32
    """Voxel grids per encoder batch."""
    scenes_per_shard: int = 8
    """Scenes per shard (one Parquet file)."""
    seed: int = 0
    """Random seed of the choice of views."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "scenes_per_shard", "views_per_scene"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")
        if not self.store or not set(self.store) <= set(get_args(Storable)):
            raise ConfigError(
                f"store is {self.store!r}. Expected one or more of {' '.join(get_args(Storable))}."
            )

    def _fingerprint_of_encoder(self) -> str | None:
        if "latents" not in self.store:
            return None
        return checkpoint_fingerprint(self.encoder, "encoder")

    def _fingerprint_of_image_encoder(self) -> str | None:
        if "image_tokens" not in self.store:
            return None
        return load_dinov2(self.image_encoder, "cpu").fingerprint()

    def output(self, root: Folder, inputs: Inputs) -> Output:
        """Return the folder of the latents; ``store`` decides if rows have feature columns."""
        output = super().output(root, inputs)
        if SLAT_FEATURES not in self.store:
            return output
        return replace(output, schema=LATENTS.full_schema)

    def units(self, inputs: Inputs) -> Sequence[int]:
        return inputs["renders"].units()

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        reader = SceneReader(inputs["assets"])
        device = torch_device(context.settings.device)
        encoder = None
        if "latents" in self.store:
            encoder = load_autoencoder(self.encoder, "encoder", device)
        slat = None
        if SLAT_FEATURES in self.store:
            slat = SlatFeatures(self.slat, self.seed, device)
        write_tokens = self._token_writer(inputs, context.folder, device)

        def process(layout_id: int) -> list[Row]:
            columns = ["view_index", "kept", "world_to_camera"]
            views = [row for row in inputs["renders"].rows_of(layout_id, columns) if row["kept"]]
            views = self._choose(layout_id, views)
            if not views:
                return []
            [layout] = inputs["layouts"].rows_of(layout_id)
            scene = reader.read(layout)
            if write_tokens is not None:
                write_tokens(layout_id, len(scene.meshes), [row["view_index"] for row in views])
            add: AddColumns | None = None
            if slat is not None:
                add = partial(slat.columns, slat.views_of(inputs["renders"], layout_id))
            return self._encode_scene(layout_id, scene, views, encoder, device, add)

        with torch_threads(context.threads):
            yield process

    def _token_writer(
        self, inputs: Inputs, folder: Folder, device: torch.device
    ) -> Callable[[int, int, list[int]], None] | None:
        """Return a function that writes the image tokens of a scene's views; None if not stored.

        The function takes ``layout_id``, the number of instances and the view indices.
        """
        if "image_tokens" not in self.store:
            return None
        encoder = load_dinov2(self.image_encoder, device)
        columns = ["view_index", "rgb", "instance_map"]

        def write(layout_id: int, num_instances: int, views: list[int]) -> None:
            for index in views:  # one at a time: images take much memory
                [row] = inputs["renders"].rows_of(layout_id, columns, view_index=index)
                tokens = image_tokens.view_tokens(encoder, *decode_view(row), num_instances)
                image_tokens.TokenFile.of(folder, layout_id, index).write(tokens)

        return write

    def _choose(self, layout_id: int, views: list[Row]) -> list[Row]:
        """Return the views to encode, in order.

        They are drawn at random: every n-th view of a Hammersley sequence would look from one side.
        """
        if self.views_per_scene is None or self.views_per_scene >= len(views):
            return views
        rng = rng_for(self.seed, self.name, layout_id)
        chosen = rng.choice(len(views), self.views_per_scene, replace=False)
        return [views[index] for index in sorted(chosen)]

    def _encode_scene(
        self,
        layout_id: int,
        scene: SceneMeshes,
        views: list[Row],
        encoder: torch.nn.Module | None,
        device: torch.device,
        add: AddColumns | None,
    ) -> list[Row]:
        """Return one row per view. A second thread voxelises the next chunk of views."""
        vertices = scene.vertices
        to_canonical = np.stack(
            [
                view_centric_transform(view["world_to_camera"], vertices, frame=self.view_frame)
                for view in views
            ]
        )
        rows = []
        for first, occupancy in self._voxels_ahead(scene, to_canonical):
            check_instances(layout_id, views[first:], occupancy)
            latents = None
            if encoder is not None:
                grids = occupancy.reshape(-1, *occupancy.shape[2:])
                latents = encode_grids(encoder, grids, self.batch_size, device)
                latents = latents.reshape(*occupancy.shape[:2], *LATENT_SHAPE)
            for index, grids in enumerate(occupancy):
                rows.append(
                    {
                        "layout_id": layout_id,
                        "view_index": views[first + index]["view_index"],
                        "world_to_canonical": to_canonical[first + index],
                        "num_instances": len(scene.meshes),
                        "scene_latent": None if latents is None else latents[index, 0],
                        "instance_latents": None if latents is None else latents[index, 1:],
                        "occupancy": _packed(grids) if "occupancy" in self.store else None,
                    }
                    | (add(grids, to_canonical[first + index]) if add else {})
                )
        return rows

    def _voxels_ahead(
        self, scene: SceneMeshes, to_canonical: Floats
    ) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Yield each chunk of views: the index of its first view, and its occupancy.

        The occupancy is (K, N + 1, 64, 64, 64), bool, scene first. While a chunk is encoded, the
        next one is voxelised.
        """
        views_at_once = max(1, BATCHES_AHEAD * self.batch_size // (len(scene.meshes) + 1))
        starts = range(0, len(to_canonical), views_at_once)

        def make(start: int) -> NDArray[np.bool_]:
            frames = to_canonical[start : start + views_at_once]
            return voxelize_views(scene.meshes, frames, solid=self.solid)

        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(make, starts[0])
            for index, start in enumerate(starts):
                ready = pending.result()
                if index + 1 < len(starts):
                    pending = pool.submit(make, starts[index + 1])
                yield start, ready


def check_stored(latents: Dataset, wanted: str, verb: str) -> None:
    """Check that a dataset of latents stores what a verb reads.

    Args:
        latents: the dataset.
        wanted: a word of ``--store``.
        verb: named in the error.

    Raises:
        DatasetError: the dataset was encoded without it.
    """
    store = stored_in(latents)
    if wanted not in store:
        words = " ".join(store)
        raise DatasetError(
            f"{verb}: {latents.folder} was made with --store {words}. Expected {wanted} too. "
            f"Run `datagen encode --store {words} {wanted} --overwrite` first."
        )


def stored_in(latents: Dataset) -> tuple[str, ...]:
    """Return what a dataset of latents stores for each view, as words of ``--store``."""
    store = latents.fields.get("store", "latents,occupancy")
    return tuple(store.split(",") if isinstance(store, str) else store)  # str: before version 0.2


def check_instances(layout_id: int, views: list[Row], occupancy: NDArray[np.bool_]) -> None:
    """Check that every instance has a voxel.

    Args:
        layout_id: the scene, named in the error.
        views: at least K rows with ``view_index``.
        occupancy: (K, N + 1, R, R, R), bool, scene first.

    Raises:
        RowError: an instance has no voxel: it has no triangle, or is outside the scene's box.
    """
    empty = np.argwhere(~occupancy.any(axis=(2, 3, 4)))
    if len(empty):
        view, slot = empty[0]
        raise RowError(
            f"layout {layout_id}, view {views[view]['view_index']}: placement {slot - 1} has no "
            "voxel in the scene's box. Expected a mesh with triangles inside it; look at the "
            "asset's geometry file"
        )


@torch.inference_mode()
def encode_grids(
    encoder: torch.nn.Module,
    occupancy: NDArray[np.bool_],
    batch_size: int,
    device: torch.device,
) -> NDArray[np.float16]:
    """Return the posterior means of voxel grids: (G, 8, 16, 16, 16), float16.

    Args:
        encoder: takes (B, 1, 64, 64, 64), bool.
        occupancy: (G, 64, 64, 64), bool.
        batch_size: grids per forward pass.
        device: the encoder's.

    Raises:
        StageError: the encoder's latents have another shape.
    """
    means = []
    for start in range(0, len(occupancy), batch_size):
        grids = torch.from_numpy(occupancy[start : start + batch_size, None]).to(device)
        means.append(encoder(grids).float().cpu().numpy().astype(np.float16))
    latents: NDArray[np.float16] = np.concatenate(means)
    if latents.shape[1:] != LATENT_SHAPE:
        raise StageError(
            f"encode: the encoder's latents have shape {latents.shape[1:]}. Expected "
            f"{LATENT_SHAPE}; use TRELLIS's sparse-structure encoder "
            "(ss_enc_conv3d_16l8_fp16) or `small`."
        )
    return latents


def _packed(grids: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return grids (N + 1, 64, 64, 64) as bits: (N + 1, GRID_BYTES), uint8."""
    return np.frombuffer(pack_occupancy(grids), np.uint8).reshape(-1, GRID_BYTES)
