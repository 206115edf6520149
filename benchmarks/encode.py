"""Encode the same voxels by our path and the way TRELLIS's toolkit does, and compare the rates.

``python benchmarks/encode.py [--encoder small|full|NAME] [--device cpu|cuda]``. TRELLIS's way
(``encode_ss_latent.py``) reads a PLY of voxel centres, scatters it into a grid, encodes it with
batch 1, and writes its mean with ``np.savez_compressed``, one file a grid. Ours takes grids from
memory, as the stage has them, encodes them in batches, and writes float16 to one Parquet shard.
``full`` is the published size with random weights. Voxelisation is in neither time.

Beside the ratio it prints which share of the device's matrix peak the encoder's multiplications
reach (``--peak-tflops``; an H200 has 989 for bf16 and fp16 without sparsity).
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import trimesh
import tyro
from numpy.typing import NDArray
from torch import nn

from datagen.core.seeding import rng_for
from datagen.models import SparseStructureEncoder
from datagen.models.devices import torch_device, torch_threads
from datagen.models.named_checkpoints import load_autoencoder
from datagen.shards import open_dataset
from datagen.stages.encode import encode_grids
from datagen.voxels import unpack_occupancy, voxelize_views

PUBLISHED = {
    "in_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 2,
    "num_res_blocks_middle": 2,
    "channels": [32, 128, 512],
    "use_fp16": True,
}


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare the two."""

    encoder: str = "small"
    """``small``, ``full`` (the published size, random weights), or a checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    latents: str | None = None
    """A dataset whose voxels are taken; random scenes of six objects by default."""
    num_grids: int = 64
    """Grids that each way encodes."""
    batch_size: int = 32
    """Of our way."""
    channels_last: bool = False
    """Lay out volumes with the channels last."""
    compile: bool = False
    """``torch.compile`` the encoder."""
    threads: int = 1
    repeats: int = 1
    """Rounds in which the ways take turns; the fastest of each counts."""
    peak_tflops: float | None = None
    """Matrix peak of the device; with it, the share that is reached."""


def stored_grids(latents: str, count: int) -> NDArray[np.bool_]:
    """Return the grids (G, 64, 64, 64) of a dataset's views, the first ones."""
    grids: list[NDArray[np.bool_]] = []
    for row in open_dataset(latents).rows(["occupancy"]):
        grids += list(unpack_occupancy(row["occupancy"].tobytes()))
        if len(grids) >= count:
            break
    return np.stack(grids[:count])


def random_grids(count: int) -> NDArray[np.bool_]:
    """Return the grids (G, 64, 64, 64) of scenes of six balls and boxes, the union first."""
    rng = rng_for(0, "benchmark", "encode")
    grids: list[NDArray[np.bool_]] = []
    while len(grids) < count:
        meshes = []
        for kind in range(6):
            radius = rng.uniform(0.05, 0.15)
            sphere = trimesh.creation.icosphere(3, radius)
            part = sphere if kind % 2 else trimesh.creation.box(2 * rng.uniform(0.05, 0.15, 3))
            part.apply_transform(trimesh.transformations.random_rotation_matrix(rng.random(3)))
            part.apply_translation(rng.uniform(-0.3, 0.3, 3))
            meshes.append((np.asarray(part.vertices), np.asarray(part.faces)))
        grids += list(voxelize_views(meshes, np.eye(4)[None])[0])
    return np.stack(grids[:count])


def load_encoder(config: Compare, device: torch.device) -> nn.Module:
    if config.encoder != "full":
        return load_autoencoder(config.encoder, "encoder", device)
    torch.manual_seed(0)
    arguments = PUBLISHED | {"use_fp16": device.type == "cuda"}
    return SparseStructureEncoder(**arguments).to(device).eval()  # type: ignore[arg-type]


def write_voxels(grids: NDArray[np.bool_], folder: Path) -> list[Path]:
    """Write each grid's voxel centres as a PLY, TRELLIS's input."""
    paths = []
    for index, grid in enumerate(grids):
        path = folder / f"{index:05d}.ply"
        trimesh.PointCloud((np.argwhere(grid) + 0.5) / 64 - 0.5).export(path)
        paths.append(path)
    return paths


@torch.no_grad()
def trellis_way(
    encoder: nn.Module, paths: list[Path], out: Path, device: torch.device
) -> NDArray[np.float32]:
    means = []
    for path in paths:
        points = np.asarray(trimesh.load(path).vertices)
        index = torch.from_numpy(((points + 0.5) * 64).astype(np.int64))
        grid = torch.zeros(1, 64, 64, 64, dtype=torch.long)
        grid[:, index[:, 0], index[:, 1], index[:, 2]] = 1
        mean = encoder(grid[None].to(device).float())[0].cpu().float().numpy()
        np.savez_compressed(out / f"{path.stem}.npz", mean=mean)
        means.append(mean)
    return np.stack(means)


def our_way(
    encoder: nn.Module, grids: NDArray[np.bool_], batch: int, out: Path, device: torch.device
) -> NDArray[np.float16]:
    latents = encode_grids(encoder, grids, batch, device)
    table = pa.table({"latent": [latent.tobytes() for latent in latents]})
    pq.write_table(table, out / "shard.parquet", compression="zstd")
    return latents


def timed(
    work: Callable[[], NDArray[np.floating]], device: torch.device
) -> tuple[float, NDArray[np.floating]]:
    """Return seconds and the result; on a CPU processor time, which bears a busy machine."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started, result


def encoder_flops(encoder: nn.Module, grids: NDArray[np.bool_], device: torch.device) -> float:
    """Return the multiplications and additions of convolutions and linear maps, a grid's mean."""
    total = 0

    def count(module: nn.Module, _: tuple[object, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        per_output = 2 * weight[0].numel()
        total += per_output * output.numel()

    hooks = [
        module.register_forward_hook(count)
        for module in encoder.modules()
        if isinstance(module, nn.Conv3d | nn.Linear)
    ]
    with torch.inference_mode():
        encoder(torch.from_numpy(grids[:8, None]).to(device))
    for hook in hooks:
        hook.remove()
    return total / len(grids[:8])


def main() -> None:
    config = tyro.cli(Compare)
    device = torch_device(config.device)
    with torch_threads(config.threads), tempfile.TemporaryDirectory() as scratch:
        compare(config, device, Path(scratch))


def compare(config: Compare, device: torch.device, folder: Path) -> None:
    encoder = load_encoder(config, device)
    if config.channels_last:
        encoder = encoder.to(memory_format=torch.channels_last_3d)
    ours = torch.compile(encoder) if config.compile else encoder
    count = config.num_grids
    grids = stored_grids(config.latents, count) if config.latents else random_grids(count)
    flops = encoder_flops(encoder, grids, device)
    paths = write_voxels(grids, folder)
    our_way(ours, grids[: config.batch_size], config.batch_size, folder, device)  # warm
    trellis_way(encoder, paths[:2], folder, device)
    batch = config.batch_size
    theirs_s = ours_s = network_s = float("inf")
    for _ in range(config.repeats):
        seconds, theirs = timed(lambda: trellis_way(encoder, paths, folder, device), device)
        theirs_s = min(theirs_s, seconds)
        seconds, means = timed(lambda: our_way(ours, grids, batch, folder, device), device)
        ours_s = min(ours_s, seconds)
        seconds, _ = timed(lambda: encode_grids(ours, grids, batch, device), device)
        network_s = min(network_s, seconds)
    rate, their_rate = len(grids) / ours_s, len(grids) / theirs_s
    reached = flops * len(grids) / network_s / 1e12
    print(f"{config.encoder} encoder on {device}, {config.threads} thread(s), {len(grids)} grids")
    print(f"TRELLIS's way  {their_rate:9.2f} grids/s")
    print(f"ours           {rate:9.2f} grids/s, batches of {config.batch_size}")
    print(f"ratio          {rate / their_rate:9.2f}")
    print(f"largest difference {np.abs(means.astype(np.float32) - theirs).max():.2g} (float16)")
    share = f", {reached / config.peak_tflops:.1%} of the peak" if config.peak_tflops else ""
    print(f"{flops / 1e9:.1f} GFLOP a grid: {reached:.3f} TFLOP/s{share}")


if __name__ == "__main__":
    main()
