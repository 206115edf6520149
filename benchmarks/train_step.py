"""A training step: floating-point work a second, cost of scene-context attention, wait for data.

    python benchmarks/train_step.py                     # a GPU: iscene-L; else small
    python benchmarks/train_step.py --root dataset      # also the wait for a workspace's data

The work of a step is counted by torch's own counter in its forward and backward pass. Utilisation
is that work over the device's peak in the same precision. A CPU has no published peak, so a large
matrix product of the same precision, measured in the same run, is used. Steps with and without
scene-context attention (all of it in the middle blocks) alternate, on the same batch.
"""

import argparse
import statistics
import time
from contextlib import nullcontext

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from datagen.core.seeding import rng_for
from datagen.engine.stage import open_inputs
from datagen.models import MODEL_ARGS
from datagen.shards import Folder
from datagen.stages.train import TrainFlow
from datagen.training import ISCENE_L, SceneSample, TrainConfig, objective_of
from datagen.training.data.loader import SceneLoader, StreamConfig
from datagen.training.distributed import Ranks
from datagen.training.log import peak_memory_gib
from datagen.training.objectives.batches import Batch
from datagen.training.objectives.structure.batches import make_batch
from datagen.training.state import TrainState

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Dense bfloat16, as NVIDIA's data sheets have them (SXM)."""


def make_samples(config: TrainConfig) -> list[SceneSample]:
    """Return random views: the time of a step does not depend on what is in them."""
    size, count = objective_of(config).image_size_px, config.instances_per_view
    rng = rng_for(0, "benchmark")
    latents = rng.normal(size=(count + 1, 8, 16, 16, 16)).astype(np.float16)
    images = rng.integers(0, 256, (count + 1, size, size, 3), np.uint8)
    instance_map = np.zeros((size, size), np.uint8)
    sample = SceneSample(0, 0, latents[0], latents[1:], images[0], images[1:], instance_map)
    return [sample] * config.batch_size


def wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def step_seconds(states: list[TrainState], batch: Batch, repeats: int) -> list[list[float]]:
    """Return the seconds of every state's steps, which take turns."""
    seconds: list[list[float]] = [[] for _ in states]
    for repeat in range(repeats + 2):
        for state, found in zip(states, seconds, strict=True):
            wait_for(state.device)
            started = time.perf_counter()
            state.take_step(batch)
            wait_for(state.device)
            if repeat >= 2:  # the first ones allocate and compile
                found.append(time.perf_counter() - started)
    return seconds


def step_flops(config: TrainConfig, device: str, batch: Batch) -> float:
    """Return the floating-point operations of a step, without what is computed twice."""
    plain = TrainConfig(
        **{**vars(config), "activation_checkpointing": False, "compile_blocks": False}
    )
    state = fresh_state(plain, device)
    # The counter knows the GPU's fused attentions, and not the CPU's.
    counted = sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
    with FlopCounterMode(display=False) as counter, counted:
        state.take_step(batch)
    return float(counter.get_total_flops())


def peak_flops(device: str, precision: str) -> tuple[float, str]:
    """Return the device's operations a second, and where the number is from."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
        for part, flops in PEAK_FLOPS.items():
            if part in name:
                return flops, f"{name}, data sheet"
    half = torch.bfloat16 if precision == "bfloat16" else torch.float32
    side, best = 2048 if device == "cpu" else 8192, 0.0
    a = torch.randn(side, side, device=device, dtype=half)
    for _ in range(5):
        wait_for(device)
        started = time.perf_counter()
        a @ a
        wait_for(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best, f"a {side}² matrix product in {precision}, measured here"


def fresh_state(config: TrainConfig, device: str) -> TrainState:
    """Return a training before its first step."""
    objective = objective_of(config)
    return TrainState(objective, objective.network_args(()), device, Ranks())


def without_context(config: TrainConfig, device: str) -> TrainState:
    """Return a training whose blocks see no scene."""
    state = fresh_state(config, device)
    state.model.flow.scene_context_blocks = range(0)
    return state


def data_wait(root: str, config: TrainConfig, seconds: float, num_workers: int) -> float:
    """Return the share of the time that a loader keeps steps of so many seconds waiting."""
    stage = TrainFlow(config=config)
    sources, _ = stage.sources(open_inputs(stage, Folder.at(root)))
    stream = StreamConfig(size_px=stage.objective.image_size_px)
    decode = stage.objective.decode
    loader = SceneLoader(sources, stream, decode, num_workers=num_workers, cache_bytes=2**31)
    waited, steps = 0.0, 10
    for step in range(steps + 2):
        started = time.perf_counter()
        samples = [next(loader) for _ in range(config.batch_size)]
        make_batch(samples, config, "train", step, range(config.batch_size))
        waited += (time.perf_counter() - started) * (step >= 2)
        time.sleep(seconds)  # the device computes; the loader's processes may work meanwhile
    return waited / (waited + steps * seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=tuple(MODEL_ARGS))
    parser.add_argument("--batch-size", type=int, help="views at once; default: as published")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile-blocks", action="store_true")
    parser.add_argument("--activation-checkpointing", action="store_true")
    parser.add_argument("--root", help="a workspace with latents, for the wait for data")
    parser.add_argument("--loader-workers", type=int, default=0)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = arguments.model or ("iscene-L" if device == "cuda" else "small")
    base = ISCENE_L if model == "iscene-L" else TrainConfig()
    config = TrainConfig(
        **{
            **vars(base),
            "image_encoder": None,  # what is measured needs no download
            "batch_size": arguments.batch_size or base.micro_batch_size or base.batch_size,
            "compile_blocks": arguments.compile_blocks,
            "activation_checkpointing": arguments.activation_checkpointing,
        }
    )
    batch = make_batch(make_samples(config), config, "train", 0, range(config.batch_size))
    flops = step_flops(config, device, batch)
    states = [fresh_state(config, device), without_context(config, device)]
    with_context, without = map(statistics.median, step_seconds(states, batch, arguments.repeats))
    peak, source = peak_flops(device, config.precision)
    print(
        f"{model} on {device}, {config.batch_size} views of {batch.latents.shape[1]} grids a step"
    )
    print(f"  floating-point work of a step    {flops / 1e12:10.3f} TFLOP")
    print(f"  a step                           {with_context:10.3f} s")
    print(f"  a step without the scene's keys  {without:10.3f} s")
    print(f"  ratio with to without            {with_context / without:10.2f}")
    print(f"  peak                             {peak / 1e12:10.2f} TFLOP/s ({source})")
    print(f"  model FLOP utilisation           {flops / with_context / peak:10.1%}")
    print(f"  memory                           {peak_memory_gib():10.2f} GiB")
    if arguments.root:
        share = data_wait(arguments.root, config, with_context, arguments.loader_workers)
        print(f"  wait for data                    {share:10.1%}")


if __name__ == "__main__":
    main()
