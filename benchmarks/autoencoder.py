"""Score the small autoencoder on held-out objects.

``python benchmarks/autoencoder.py --assets FOLDER [FOLDER ...]`` prints the voxel IoU (mean,
median, 5th percentile, worst five) of held-out objects at full size, of whole scenes, and of the
objects in them; and the milliseconds to encode and decode a grid.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import datagen.models
from datagen.core.seeding import rng_for
from datagen.models import load_model
from datagen.shards import Row, open_dataset
from datagen.training.embedded.random_voxels import (
    find_geometry,
    is_held_out,
    sample_object,
    sample_random_scene,
)
from datagen.voxels.drawing import draw_voxels

WEIGHTS = Path(datagen.models.__file__).parent / "weights"
PANEL_PX = 300
CAPTION_PX = 34


@dataclass(frozen=True, kw_only=True)
class Score:
    """Reconstruct held-out voxels and print how well."""

    assets: tuple[Path, ...]
    """Asset folders; only their held-out objects are used."""

    weights: Path = WEIGHTS
    """Folder with small_ss_enc and small_ss_dec."""

    num_scenes: int = 40
    """Random scenes of held-out objects."""

    batch_size: int = 8
    """Grids encoded at once."""

    noise: float = 0.0
    """Noise added to the latents before decoding, as a flow model would leave it."""

    images: Path | None = None
    """Draw the worst five objects into this PNG."""


class Codec:
    """Encoder and decoder, and the time each has taken."""

    def __init__(self, config: Score) -> None:
        self.batch_size, self.noise = config.batch_size, config.noise
        self.encoder = load_model(config.weights / "small_ss_enc", device="cpu")
        self.decoder = load_model(config.weights / "small_ss_dec", device="cpu")
        self.num_grids, self.encode_s, self.decode_s = 0, 0.0, 0.0

    def iou(self, grids: NDArray[np.bool_]) -> list[float]:
        """Return the IoU of each grid (B, 64, 64, 64) with its reconstruction."""
        decoded = self.reconstruct(grids)
        both = (grids & decoded).sum(axis=(1, 2, 3))
        either = (grids | decoded).sum(axis=(1, 2, 3))
        return list(both / either)

    @torch.inference_mode()
    def reconstruct(self, grids: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return what becomes of grids (B, 64, 64, 64)."""
        made = []
        for batch in torch.from_numpy(grids).split(self.batch_size):
            started = time.perf_counter()
            latent = self.encoder(batch[:, None].float())
            encoded = time.perf_counter()
            latent = latent + self.noise * torch.randn_like(latent)
            made.append((self.decoder(latent)[:, 0] > 0).numpy())
            self.decode_s += time.perf_counter() - encoded
            self.encode_s += encoded - started
            self.num_grids += len(batch)
        return np.concatenate(made)


def read_rows(assets: tuple[Path, ...]) -> dict[str, Row]:
    """Return the objects' rows by asset_id."""
    columns = ["asset_id", "name", "author", "license"]
    rows = [row for folder in assets for row in open_dataset(folder).rows(columns)]
    return {row["asset_id"]: row for row in rows}


def draw(path: Path, shown: list[tuple[Row, NDArray[np.bool_], NDArray[np.bool_]]]) -> None:
    """Draw objects side by side, each the truth above its reconstruction (64, 64, 64)."""
    size = (PANEL_PX * len(shown), 2 * PANEL_PX + CAPTION_PX)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for column, (row, true, made) in enumerate(shown):
        left = column * PANEL_PX
        for line, (here, other) in enumerate(((true, made), (made, true))):
            panel = Image.fromarray(draw_voxels(np.stack([here & ~other, here & other])))
            panel.thumbnail((PANEL_PX - 8, PANEL_PX - 8), Image.Resampling.LANCZOS)
            sheet.paste(panel, (left + 4, line * PANEL_PX + 4), panel)
        iou = (true & made).sum() / (true | made).sum()
        words = f"{row['name']}: IoU {iou:.3f}\n{row['author'] or 'unknown'}, {row['license']}"
        pen.text((left + 6, 2 * PANEL_PX), words, "black", font)
    sheet.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def report(title: str, scores: list[float], names: list[str]) -> None:
    """Print one distribution and its worst five."""
    values = np.array(scores)
    worst = ", ".join(f"{names[i]} {values[i]:.3f}" for i in np.argsort(values)[:5])
    print(
        f"{title:9s} n {len(values):4d}  IoU mean {values.mean():.3f}  median "
        f"{np.median(values):.3f}  p5 {np.quantile(values, 0.05):.3f}  worst: {worst}"
    )


def main(config: Score) -> None:
    """Print three distributions and two times."""
    torch.set_flush_denormal(True)
    paths = [path for path in find_geometry(config.assets) if is_held_out(path)]
    codec = Codec(config)
    grids = np.concatenate([sample_object(p, rng_for(0, "score", p.stem)) for p in paths])
    objects = codec.iou(grids)
    known = read_rows(config.assets)
    rows = [known[path.stem] for path in paths]
    report("objects", objects, [row["name"] for row in rows])
    if config.images:
        worst = np.argsort(objects)[:5]
        made = codec.reconstruct(grids[worst])
        shown = [(rows[i], grids[i], one) for i, one in zip(worst, made, strict=True)]
        draw(config.images, shown)
    scenes, instances = [], []
    for index in range(config.num_scenes):
        whole, *parts = codec.iou(sample_random_scene(paths, rng_for(0, "score", index)))
        scenes.append(whole)
        instances += [(iou, f"scene {index}.{part}") for part, iou in enumerate(parts)]
    report("scenes", scenes, [f"scene {index}" for index in range(len(scenes))])
    report("instances", [iou for iou, _ in instances], [name for _, name in instances])
    for verb, seconds in (("encode", codec.encode_s), ("decode", codec.decode_s)):
        print(f"{verb}: {1e3 * seconds / codec.num_grids:.1f} ms a grid")


if __name__ == "__main__":
    main(tyro.cli(Score))
