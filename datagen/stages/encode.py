"""``datagen encode``: view-centric voxels of every kept view, and their latents."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.errors import ConfigError, StageError
from datagen.shards import Identity, Row
from datagen.shards.schemas import GRID_BYTES, LATENT_SHAPE, LATENTS
from datagen.stages.checkpoints import (
    checkpoint_fingerprint,
    load_autoencoder,
    torch_device,
    torch_threads,
)
from datagen.stages.scenes import SceneReader
from datagen.stages.stage import Inputs, Process, Stage, WorkerContext
from datagen.voxels import pack_occupancy, view_centric_transform, voxelize_view


@dataclass(frozen=True, kw_only=True)
class EncodeLatents(Stage):
    """Turn each kept view's scene into 64³ voxels in its view-centric frame, and encode them.

    Voxels are reproducible to the byte; latents are rounded to float16, whose last bit may differ
    between processors.
    """

    name: ClassVar[str] = "encode"
    folder: ClassVar[str] = "latents"
    revision: ClassVar[int] = 1
    schema = LATENTS
    reads: ClassVar[tuple[str, ...]] = ("assets", "layouts", "renders")
    uses_gpu: ClassVar[bool] = True

    encoder: str = "small"
    """``small`` (embedded), a checkpoint NAME (NAME.json + NAME.safetensors), or a hub id."""
    view_frame: Literal["yaw", "camera"] = "yaw"
    """How a view turns its scene: about the up axis only, or with the whole camera."""
    batch_size: int = 32
    """Grids encoded at once."""
    scenes_per_shard: int = 8
    """Scenes a shard."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.scenes_per_shard < 1:
            raise ConfigError(
                f"batch_size and scenes_per_shard must be at least 1, "
                f"got {self.batch_size} and {self.scenes_per_shard}."
            )

    def identity(self, inputs: Inputs) -> Identity:
        """The encoder is known by its weights."""
        identity = super().identity(inputs)
        encoder = checkpoint_fingerprint(self.encoder, "encoder")
        return replace(identity, inputs={**identity.inputs, "encoder": encoder})

    def units(self, inputs: Inputs) -> Sequence[int]:
        return inputs["renders"].units()

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        reader = SceneReader(inputs["assets"])
        device = torch_device(context.device)
        encoder = load_autoencoder(self.encoder, "encoder", device)

        def process(layout_id: int) -> list[Row]:
            columns = ["view_index", "kept", "world_to_camera"]
            views = [row for row in inputs["renders"].rows_of(layout_id, columns) if row["kept"]]
            if not views:
                return []
            [layout] = inputs["layouts"].rows_of(layout_id)
            scene = reader.read(layout)
            rows = []
            for view in views:
                world_to_canonical = view_centric_transform(
                    view["world_to_camera"], scene.vertices, frame=self.view_frame
                )
                occupancy = voxelize_view(scene.meshes, world_to_canonical)
                latents = encode_grids(encoder, occupancy, self.batch_size, device)
                packed = np.frombuffer(pack_occupancy(occupancy), np.uint8)
                rows.append(
                    {
                        "layout_id": layout_id,
                        "view_index": view["view_index"],
                        "world_to_canonical": world_to_canonical,
                        "num_instances": len(scene.meshes),
                        "scene_latent": latents[0],
                        "instance_latents": latents[1:],
                        "occupancy": packed.reshape(-1, GRID_BYTES),
                    }
                )
            return rows

        with torch_threads(context.threads):
            yield process


@torch.inference_mode()
def encode_grids(
    encoder: torch.nn.Module,
    occupancy: NDArray[np.bool_],
    batch_size: int,
    device: torch.device,
) -> NDArray[np.float16]:
    """Return the posterior means (G, 8, 16, 16, 16) of grids (G, 64, 64, 64).

    Raises:
        StageError: the encoder's latents have another shape.
    """
    means = []
    for start in range(0, len(occupancy), batch_size):
        grids = torch.from_numpy(occupancy[start : start + batch_size, None]).to(device)
        means.append(encoder(grids.float()).float().cpu().numpy().astype(np.float16))
    latents: NDArray[np.float16] = np.concatenate(means)
    if latents.shape[1:] != LATENT_SHAPE:
        raise StageError(
            f"encode: the encoder gives latents of {latents.shape[1:]}, expected {LATENT_SHAPE}. "
            "Use an encoder of TRELLIS's sparse structure (ss_enc_conv3d_16l8_fp16) or `small`."
        )
    return latents
