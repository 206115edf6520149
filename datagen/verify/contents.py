"""The checks of ``datagen verify --deep``: images are decoded, geometry files are opened."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from datagen.shards import Row
from datagen.verify.references import VIEW_COLUMNS, References


def image_problems(row: Row, references: References, folder: str) -> Iterator[str]:
    """Yield images of a view that do not decode, or whose size or pixel counts are not its row's.

    Args:
        row: of ``renders``.
        references: unused.
        folder: unused.
    """
    words = f"layout {row['layout_id']}, view {row['view_index']}"
    if not row["kept"]:
        return
    for column, channels in (("rgb", 4), ("instance_map", 1)):
        try:
            image = decode(row[column])
        except (UnidentifiedImageError, OSError, SyntaxError, TypeError) as error:
            yield f"{words}: {column} does not decode ({error})"
            continue
        expected = (row["height"], row["width"], channels)
        if image.shape != expected:
            yield f"{words}: {column} is {image.shape}, expected {expected}"
        elif column == "instance_map":
            counts = np.bincount(image.ravel(), minlength=len(row["visible_px"]) + 1)[1:].tolist()
            if counts != row["visible_px"]:
                yield f"{words}: instance_map shows {counts} pixels, visible_px is another list"


def geometry_problems(row: Row, references: References, folder: str) -> Iterator[str]:
    """Yield what is wrong with the geometry file of an asset.

    Args:
        row: of ``assets``.
        references: of the workspace; a file that is not there is reported by another check.
        folder: of the dataset.
    """
    path = row["geometry_path"]
    if path is None or not references.has_file(folder, path):
        return
    try:
        with np.load((references.root / folder).local_copy(path)) as file:
            vertices, faces = file["vertices"], file["faces"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        yield f"{folder}/{path} does not open ({error})"
        return
    if (len(vertices), len(faces)) != (row["num_vertices"], row["num_faces"]):
        yield (
            f"{folder}/{path} has {len(vertices)} vertices and {len(faces)} faces, "
            f"the row says {row['num_vertices']} and {row['num_faces']}"
        )
    if not np.isfinite(vertices).all() or (faces.size and faces.max() >= len(vertices)):
        yield f"{folder}/{path} has a vertex that is not finite, or a face without its vertex"


def latent_problems(row: Row, references: References, folder: str) -> Iterator[str]:
    """Yield the columns of a view's latents that hold a value that is not finite.

    Args:
        row: of ``latents``.
        references: unused.
        folder: unused.
    """
    words = f"layout {row['layout_id']}, view {row['view_index']}"
    for column in ("scene_latent", "instance_latents"):
        if row[column] is not None and not np.isfinite(row[column]).all():
            yield f"{words}: {column} holds a value that is not finite"


def decode(data: bytes) -> NDArray[np.integer[Any]]:
    """Return the pixels (H, W, C) of an image file."""
    with Image.open(io.BytesIO(data)) as image:
        array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


CONTENT_CHECKS = {
    "assets": (["geometry_path", "num_vertices", "num_faces"], geometry_problems),
    "renders": (
        [*VIEW_COLUMNS, "kept", "width", "height", "visible_px", "rgb", "instance_map"],
        image_problems,
    ),
    "latents": ([*VIEW_COLUMNS, "scene_latent", "instance_latents"], latent_problems),
}
"""Columns that are read, and the check of a row; by folder."""
