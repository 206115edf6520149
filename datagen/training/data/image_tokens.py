"""Image tokens of a frozen encoder, computed once and stored beside the latents, a file per view.

The tokens of an image take 2.8 MB (1374 × 1024 numbers of 16 bits), forty times as much as its
latents. So a step reads only the tokens of the grids that it draws.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from datagen.errors import DatasetError
from datagen.models.dinov2 import DinoV2
from datagen.shards import Folder
from datagen.views.conditioning import condition_images, resize_lanczos4

TOKENS = "image_tokens"
INPUT = "image_encoder"
"""Name of the encoder among the inputs in the dataset's manifest."""
_IMAGES_AT_ONCE = 8


@dataclass(frozen=True)
class TokenFile:
    """The stored tokens of one view: (N + 1, T, C) float16 as .npy, the scene first."""

    folder: Folder
    """The dataset ``latents``."""
    name: str

    @classmethod
    def of(cls, latents: Folder, layout_id: int, view_index: int) -> "TokenFile":
        """Return the file of a view; it need not exist."""
        return cls(latents, f"{TOKENS}/{layout_id}_{view_index}.npy")

    def write(self, tokens: NDArray[np.floating[Any]]) -> None:
        """Write all tokens of the view (N + 1, T, C), the scene first, rounded to float16."""
        buffer = io.BytesIO()
        np.save(buffer, tokens.astype("<f2"))
        self.folder.write_bytes(self.name, buffer.getvalue())

    def read(self, slots: Sequence[int]) -> NDArray[np.float16]:
        """Return the tokens (M, T, C) of some of the view's images.

        Args:
            slots: M of them: 0 is the scene, i + 1 is instance i.

        Raises:
            DatasetError: the file is missing or truncated, or has fewer images.
        """
        try:
            with self.folder.open_file(self.name) as file:
                npy.read_magic(file)  # type: ignore[no-untyped-call]
                shape, _, dtype = npy.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
                start, size = file.tell(), int(np.prod(shape[1:])) * dtype.itemsize
                tokens = np.empty((len(slots), *shape[1:]), np.float16)
                for place, slot in enumerate(slots):
                    file.seek(start + slot * size)
                    tokens[place] = np.frombuffer(file.read(size), dtype).reshape(shape[1:])
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{self.folder}/{self.name}: cannot be read ({error}). Expected the tokens of the "
                "view's images; delete manifest.json and the shard of its layout, and run "
                "`datagen encode` again."
            ) from error
        return tokens


def view_tokens(
    encoder: DinoV2,
    rgba: NDArray[np.uint8],
    instance_map: NDArray[np.integer[Any]],
    num_instances: int,
) -> NDArray[np.float32]:
    """Return the tokens (N + 1, T, C) of a view's conditioning images, the scene first.

    Args:
        encoder: the frozen encoder.
        rgba: (H, W, 4), the view's image, sRGB with straight alpha.
        instance_map: (H, W), 0 is background, i + 1 is instance i.
        num_instances: N, hidden instances included.
    """
    scene, instances = condition_images(
        rgba, instance_map, num_instances, encoder.size_px, resize_lanczos4
    )
    images = torch.from_numpy(np.concatenate([scene[None], instances]))
    parts = [encoder(part[None])[0] for part in torch.split(images, _IMAGES_AT_ONCE)]
    return np.asarray(torch.cat(parts).float().numpy())
