"""Sparse operations beside their naive forms, and the structured-latent model's time a scene.

``python benchmarks/structured_latents.py [--voxels 2000] [--device cpu|cuda] [--full]``. Two
comparisons, each in one run on the same data: a convolution on subdivided sites (27 taps of eight
copies, against 8 summed taps of the parents), and attention in windows (one call a window, against
padded batches). Then the seconds to extract the surface of a decoder's cubes. ``--full`` also times
the published sizes with random weights: flow, mesh decoder, extraction. ``--table`` prints for the
published sizes with random weights the seconds and the memory of whole scenes, by instances and
voxels of each: 25 guided steps of the flow, then decoder and extraction.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from torch import Tensor

from datagen.models import SLatFlowModel, SLatMeshDecoder
from datagen.models.devices import torch_device, torch_threads
from datagen.models.sparse import Sites, SparseConv3d, attend_in_groups, subdivide
from datagen.sampling.cube_mesh import CUBE_CORNERS, extract_mesh
from datagen.sampling.scenes import SamplerConfig
from datagen.sampling.structured_latents import (
    StructuredLatents,
    sample_structured_latents,
    single_sites,
)

FLOW = {
    "resolution": 64,
    "in_channels": 8,
    "out_channels": 8,
    "model_channels": 1024,
    "cond_channels": 1024,
    "num_blocks": 24,
    "num_heads": 16,
    "mlp_ratio": 4,
    "patch_size": 2,
    "num_io_res_blocks": 2,
    "io_block_channels": [128],
    "qk_rms_norm": True,
}
MESH = {
    "resolution": 64,
    "model_channels": 768,
    "latent_channels": 8,
    "num_blocks": 12,
    "num_heads": 12,
    "representation_config": {"use_color": True},
}


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare each with its naive form."""

    voxels: int = 2000
    """Voxels of the shell that is worked on, about."""
    channels: int = 192
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    repeats: int = 3
    """The fastest counts."""
    full: bool = False
    """Time the published sizes too, with random weights."""
    table: bool = False
    """Time whole scenes at the published sizes: minutes on a GPU, days on a CPU."""
    instances: tuple[int, ...] = (1, 4, 8)
    """Of the table."""
    instance_voxels: tuple[int, ...] = (1000, 4000, 10_000)
    """Of the table: voxels of each instance, about."""
    max_voxels: int = 100_000
    """Of the table: voxels in the flow model at once."""
    steps: int = 25
    """Of the table: the flow's."""


def shell(count: int, device: torch.device) -> Sites:
    """Return the sites of a spherical shell one voxel thick, about ``count`` of them."""
    radius = (count / 15) ** 0.5  # such a shell has about 15 r² voxels
    axis = torch.arange(64, device=device)
    cells = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    distance = (cells - 31.5).norm(dim=1)
    near = cells[(distance - min(radius, 30)).abs() < 0.6]
    return Sites(torch.nn.functional.pad(near, (1, 0)).int(), 1)


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Return the seconds of the fastest run."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def report(what: str, ours_s: float, naive_s: float) -> None:
    print(
        f"{what:34} ours {ours_s:8.3f} s   naive {naive_s:8.3f} s   ratio {naive_s / ours_s:6.2f}"
    )


def fresh(sites: Sites) -> Sites:
    """Return the same sites with nothing computed yet."""
    return Sites(sites.coords, sites.num_samples)


def compare_convolution(config: Compare, sites: Sites) -> None:
    conv = SparseConv3d(config.channels, config.channels).to(sites.coords.device)
    feats = torch.randn(len(sites), config.channels, device=sites.coords.device)

    def naive() -> Tensor:
        return conv(feats.repeat_interleave(8, dim=0), subdivide(sites))

    def ours() -> Tensor:
        return conv.on_children(feats, fresh(sites))

    torch.testing.assert_close(ours(), naive(), rtol=1e-3, atol=1e-4)
    report(
        "convolution after subdivision",
        best_of(config.repeats, ours),
        best_of(config.repeats, naive),
    )


def compare_windows(config: Compare, sites: Sites) -> None:
    heads = config.channels // 64
    q, k, v = (torch.randn(len(sites), heads, 64, device=sites.coords.device) for _ in range(3))
    groups = sites.windows(8, 4)

    def naive() -> Tensor:
        out, start = torch.empty_like(q), 0
        for count in groups.counts:
            rows = groups.order[start : start + count]
            parts = (part[rows].transpose(0, 1)[None] for part in (q, k, v))
            attended = torch.nn.functional.scaled_dot_product_attention(*parts)
            out[rows], start = attended[0].transpose(0, 1), start + count
        return out

    def ours() -> Tensor:
        return attend_in_groups(q, k, v, groups)

    torch.testing.assert_close(ours(), naive(), rtol=1e-3, atol=1e-4)
    report(
        f"attention in {len(groups.counts)} windows",
        best_of(config.repeats, ours),
        best_of(config.repeats, naive),
    )


def time_extraction(config: Compare, sites: Sites) -> None:
    """Time the surface of a sphere in the decoder's cubes."""
    cubes = subdivide(subdivide(sites)).coords[:, 1:].long()
    corners = (cubes[:, None] + torch.tensor(CUBE_CORNERS, device=cubes.device)) / 256 - 0.5
    distance = corners.norm(dim=-1)
    feats = torch.zeros(len(cubes), 101, device=cubes.device)
    feats[:, :8] = distance - distance.mean()
    mesh = extract_mesh(cubes, feats, 256)
    seconds = best_of(config.repeats, lambda: extract_mesh(cubes, feats, 256))
    print(f"surface of {len(cubes)} cubes: {seconds:.3f} s, {len(mesh.faces)} faces")


def time_flow(config: Compare, sites: Sites, device: torch.device, *, half: bool) -> float:
    """Return the seconds of one evaluation of the flow model; a sample takes 44."""
    flow = SLatFlowModel(**FLOW, use_fp16=half).to(device).eval()
    cond = torch.randn(1, 1374, 1024, device=device)
    x, t = torch.randn(len(sites), 8, device=device), torch.full((1,), 500.0, device=device)
    return best_of(config.repeats, lambda: flow(x, t, cond, fresh(sites)))


@torch.inference_mode()
def time_full(config: Compare, sites: Sites, device: torch.device) -> None:
    half = device.type == "cuda"
    torch.manual_seed(0)
    print(f"flow, published size   {time_flow(config, sites, device, half=half):.3f} s a step")
    decoder = SLatMeshDecoder(**MESH, use_fp16=half).to(device).eval()
    x = torch.randn(len(sites), 8, device=device)
    feats, cubes = decoder(x, sites)
    decode_s = best_of(config.repeats, lambda: decoder(x, fresh(sites)))
    print(f"mesh decoder           {decode_s:.3f} s for {len(cubes)} cubes")
    seconds = best_of(1, lambda: extract_mesh(cubes.coords[:, 1:], feats, 256))
    print(f"extraction             {seconds:.3f} s")
    if half:
        print(f"peak memory            {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


@torch.inference_mode()
def print_table(config: Compare, device: torch.device) -> None:
    """Time whole scenes; each instance is a shell, the surfaces are those of random weights."""
    half = device.type == "cuda"
    torch.manual_seed(0)
    flow = SLatFlowModel(**FLOW, use_fp16=half).to(device).eval()
    decoder = SLatMeshDecoder(**MESH, use_fp16=half).to(device).eval()
    print("| instances | voxels in all | flow s | decoder s | extraction s | peak GiB |")
    print("|---|---|---|---|---|---|")
    for voxels in config.instance_voxels:
        one = shell(voxels, device).coords[:, 1:]
        for count in config.instances:
            cells = time_scene(config, flow, decoder, [one] * count)
            print(f"| {count} | {count * len(one)} | {' | '.join(cells)} |", flush=True)


def time_scene(
    config: Compare, flow: SLatFlowModel, decoder: SLatMeshDecoder, voxels: list[Tensor]
) -> list[str]:
    """Return seconds of flow, decoder and extraction, and the peak memory, as words."""
    device = voxels[0].device
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    cond = torch.randn(len(voxels), 1374, flow.cond_channels, device=device)
    latents = []

    def sample() -> None:
        latents[:] = sample_structured_latents(
            flow,
            voxels,
            cond,
            SamplerConfig(steps=config.steps),
            torch.Generator().manual_seed(0),
            max_voxels=config.max_voxels,
        )

    seconds = [best_of(1, sample), 0.0, 0.0]
    for one in latents:
        for place, spent in enumerate(time_surface(decoder, one), start=1):
            seconds[place] += spent
    peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if on_gpu else "–"
    return [*(f"{value:.2f}" for value in seconds), peak]


def time_surface(decoder: SLatMeshDecoder, latents: StructuredLatents) -> tuple[float, float]:
    """Return the seconds of decoder and extraction of one instance."""
    made = []
    decode_s = best_of(1, lambda: made.append(decoder(latents.feats, single_sites(latents))))
    feats, cubes = made[0]
    coords = cubes.coords[:, 1:].long()
    return decode_s, best_of(1, lambda: extract_mesh(coords, feats, 256, closed=True))


def main() -> None:
    config = tyro.cli(Compare)
    device = torch_device(config.device)
    sites = shell(config.voxels, device)
    print(f"{len(sites)} voxels on {device}, {config.threads} thread(s)")
    with torch_threads(config.threads):
        with torch.inference_mode():
            compare_convolution(config, sites)
            compare_windows(config, sites)
            time_extraction(config, sites)
        if config.full:
            time_full(config, sites, device)
        if config.table:
            print_table(config, device)


if __name__ == "__main__":
    main()
