"""Score the small autoencoder on objects it never saw.

``python tests/benchmarks/autoencoder.py --assets FOLDER [FOLDER ...]`` prints the distribution of
the voxel IoU (mean, median, 5th percentile, worst five) of held-out objects at full size, of whole
scenes, and of the instances in them; and the milliseconds to encode and decode a grid.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

import datagen.models
from datagen.core.seeding import rng_for
from datagen.models import load_model
from datagen.shards import open_dataset
from datagen.training.random_voxels import (
    find_geometry,
    is_held_out,
    sample_object,
    sample_scene,
)

WEIGHTS = Path(datagen.models.__file__).parent / "weights"


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


class Codec:
    """Encoder and decoder, and the time each has taken."""

    def __init__(self, config: Score) -> None:
        self.batch_size, self.noise = config.batch_size, config.noise
        self.encoder = load_model(config.weights / "small_ss_enc", device="cpu")
        self.decoder = load_model(config.weights / "small_ss_dec", device="cpu")
        self.num_grids, self.encode_s, self.decode_s = 0, 0.0, 0.0

    @torch.inference_mode()
    def iou(self, grids: NDArray[np.bool_]) -> list[float]:
        """Return the IoU of each grid (B, 64, 64, 64) with its reconstruction."""
        scores = []
        for batch in torch.from_numpy(grids).split(self.batch_size):
            started = time.perf_counter()
            latent = self.encoder(batch[:, None].float())
            encoded = time.perf_counter()
            latent = latent + self.noise * torch.randn_like(latent)
            decoded = self.decoder(latent)[:, 0] > 0
            self.decode_s += time.perf_counter() - encoded
            self.encode_s += encoded - started
            self.num_grids += len(batch)
            both = (batch & decoded).sum(dim=(1, 2, 3))
            either = (batch | decoded).sum(dim=(1, 2, 3))
            scores += (both / either).tolist()
        return scores


def read_names(assets: tuple[Path, ...]) -> dict[str, str]:
    """Return the objects' names by asset_id."""
    rows = [row for folder in assets for row in open_dataset(folder)]
    return {row["asset_id"]: row["name"] for row in rows}


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
    objects = [codec.iou(sample_object(p, rng_for(0, "score", p.stem)))[0] for p in paths]
    names = read_names(config.assets)
    report("objects", objects, [names[path.stem] for path in paths])
    scenes, instances = [], []
    for index in range(config.num_scenes):
        whole, *parts = codec.iou(sample_scene(paths, rng_for(0, "score", index)))
        scenes.append(whole)
        instances += [(iou, f"scene {index}.{part}") for part, iou in enumerate(parts)]
    report("scenes", scenes, [f"scene {index}" for index in range(len(scenes))])
    report("instances", [iou for iou, _ in instances], [name for _, name in instances])
    for verb, seconds in (("encode", codec.encode_s), ("decode", codec.decode_s)):
        print(f"{verb}: {1e3 * seconds / codec.num_grids:.1f} ms a grid")


if __name__ == "__main__":
    main(tyro.cli(Score))
