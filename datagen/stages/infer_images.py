"""``datagen infer --image … --masks …``: samples scenes from image files."""

import hashlib
import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from PIL import Image

from datagen.core.fields import content, how
from datagen.engine.stage import Inputs
from datagen.engine.units import Process, WorkerContext
from datagen.errors import ConfigError, DatasetError, RowError
from datagen.sampling.predictions import write_prediction
from datagen.shards import Folder, Output, Row
from datagen.shards.declared import SCENES
from datagen.shards.tables import Table
from datagen.stages.sampling import SamplingStage
from datagen.views.masks import MaskedImage, read_masked_image

logger = logging.getLogger(__name__)

_IMAGE_ENDING = re.compile(r"[_-](rgb|image)$")
_MASKS_ENDING = re.compile(r"[_-](seg|masks?|segmentation)$")


@dataclass(frozen=True, kw_only=True)
class InferImages(SamplingStage):
    """Sample a scene from an image and its masks, or one scene from each image of a folder."""

    name: ClassVar[str] = "infer"
    table: ClassVar[Table] = SCENES
    revision: ClassVar[int] = 2
    unit_column: ClassVar[str] = "image_index"
    unit_noun: ClassVar[str] = "images"

    image: Path = content(
        lambda stage: names_and_bytes(image for image, _ in stage.pairs()), Path(), name="images"
    )
    """An image file, or a folder of images."""
    masks: Path | None = content(
        lambda stage: names_and_bytes(masks for _, masks in stage.pairs()), default=None
    )
    """The image's instance segmentation (one channel of ids, a palette, or colours; 0 is the
    background), or a folder of them. NAME.png, NAME_seg.png or NAME_masks.png belongs to NAME.jpg
    or NAME_rgb.jpg."""
    out: Path | None = how(None)
    """Output folder, with one sub-folder per image. By default ROOT/scenes/NAME, where NAME is that
    of --image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.masks is None:
            raise ConfigError(
                f"--image {self.image}: no masks given. Expected --masks with an image of one "
                "label per object, or a folder of such images."
            )

    def output(self, root: Folder, inputs: Inputs) -> Output:
        name = scene_name(self.image)
        folder = root / self.table.folder / name if self.out is None else Folder.at(str(self.out))
        return replace(super().output(root, inputs), folder=folder)

    def units(self, inputs: Inputs) -> Sequence[int]:
        return range(len(self.pairs()))

    def pairs(self) -> list[tuple[Path, Path]]:
        """Return the paths of every image and its masks, sorted by name.

        Raises:
            DatasetError: a file is missing, or an image of the folder has no masks.
        """
        assert self.masks is not None
        for flag, path in (("--image", self.image), ("--masks", self.masks)):
            if not path.exists():
                raise DatasetError(f"{flag} {path}: no such file or folder; check the name.")
        if self.image.is_dir() != self.masks.is_dir():
            raise DatasetError(
                f"--image {self.image} and --masks {self.masks}: one is a folder and the other "
                "not. Expected two files, or two folders (the same folder is allowed)."
            )
        if not self.image.is_dir():
            return [(self.image, self.masks)]
        return _pairs_of_folders(self.image, self.masks)

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        pairs = self.pairs()

        with self.networks(inputs, context) as networks:

            def process(image_index: int) -> list[Row]:
                started = time.monotonic()
                image, masks = pairs[image_index]
                read = self._read(image, masks, alone=len(pairs) == 1)
                warnings = read.warnings()
                for warning in warnings:
                    logger.warning(f"infer: {image.name}: {warning}")
                num_instances = len(read.labels)
                # As in the released I-Scene code, all scenes start from the same noise.
                predicted = self.predict(
                    networks, read.rgba, read.instance_map, num_instances, self.seed
                )
                folder = context.folder.path / scene_name(image)
                row: Row = {
                    "image_index": image_index,
                    "image": image.name,
                    "labels": read.labels,
                    "num_instances": num_instances,
                    "warnings": warnings,
                    "path": folder.name,
                }
                pixels = (read.rgba, read.instance_map)
                empty = write_prediction(folder, predicted, *pixels, None, row, networks.blender)
                if empty:
                    logger.warning(
                        f"infer: {image.name}: {len(empty)} of {num_instances} instances came "
                        f"out empty (first: {empty[0]})"
                    )
                seconds = time.monotonic() - started
                return [{**row, "empty_instances": empty, "seconds": seconds}]

            yield process

    @staticmethod
    def _read(image: Path, masks: Path, *, alone: bool) -> MaskedImage:
        try:
            return read_masked_image(image, masks)
        except RowError as error:
            if alone:  # no other image is left to sample: the error ends the command
                raise DatasetError(str(error)) from error
            raise


def names_and_bytes(paths: Iterable[Path]) -> str:
    """Return the sha256 of the names and bytes of files. Their folders do not count."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def scene_name(image: Path) -> str:
    """Return the name of an image's scene: the file name without its suffix and ``_rgb``."""
    return _IMAGE_ENDING.sub("", image.stem) if image.suffix else image.name or "images"


def _pairs_of_folders(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    suffixes = set(Image.registered_extensions())
    by_name: dict[str, list[Path]] = {}
    for path in sorted(masks.iterdir()):
        is_masks = images != masks or _MASKS_ENDING.search(path.stem)
        if path.suffix.lower() in suffixes and is_masks:
            by_name.setdefault(_MASKS_ENDING.sub("", path.stem), []).append(path)
    pairs, without = [], []
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in suffixes or path in _flat(by_name):
            continue
        found = by_name.get(scene_name(path), [])
        if len(found) == 1:
            pairs.append((path, found[0]))
        else:
            without.append((path, found))
    if without or not pairs:
        raise DatasetError(_unpaired(images, masks, without))
    names = [scene_name(image) for image, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DatasetError(
            f"--image {images}: {len(twice)} images share a name (first: {twice[0]}), and the "
            "folder of a scene has the name of its image. Expected different names; rename them."
        )
    return pairs


def _flat(by_name: dict[str, list[Path]]) -> set[Path]:
    return {path for paths in by_name.values() for path in paths}


def _unpaired(images: Path, masks: Path, without: list[tuple[Path, list[Path]]]) -> str:
    expected = "Expected NAME.png, NAME_seg.png or NAME_masks.png for every NAME.jpg."
    if not without:
        return f"--image {images}: holds no images. {expected}"
    path, found = without[0]
    count = f"{len(found)} mask files" if found else "no masks"
    return (
        f"--image {images}: {len(without)} images cannot be paired (first: {path.name} has "
        f"{count} in {masks}). {expected}"
    )
