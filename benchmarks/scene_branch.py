"""Time one scene branch for all instances beside the released pairs, and two ways to its keys.

``python benchmarks/scene_branch.py``. First a step of the flow model: N instances with one scene,
and the released form, N pairs [instance, scene]; both must give the same velocities. Then
scene-context attention alone, whose queries see their own keys and the scene's: the keys copied
behind every instance's, and two attentions merged by their log-sum-exp, which copies nothing. The
ways alternate, and the fastest run of each counts; on a CPU in processor time of one thread.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from datagen.models import SparseStructureSceneContextFlowModel


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare the two forms, and the two ways to the scene's keys."""

    num_instances: int = 6
    channels: int = 256
    num_heads: int = 4
    num_blocks: int = 8
    context_blocks: int = 2
    patch_size: int = 2
    """1 gives the published 4096 tokens, 2 gives 512."""
    num_image_tokens: int = 64
    repeats: int = 5
    device: str = "cpu"
    bfloat16: bool = False


def main(config: Compare) -> None:
    device = torch.device(config.device)
    torch.set_num_threads(1)
    with torch.inference_mode():
        compare_models(config, device)
        compare_attention(config, device)


def compare_models(config: Compare, device: torch.device) -> None:
    model = random_model(config).to(device)
    n = config.num_instances
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1 + n, 8, 16, 16, 16, generator=generator).to(device)
    cond = torch.randn(1, 1 + n, config.num_image_tokens, config.channels, generator=generator)
    cond, t = cond.to(device), torch.full((1,), 600.0, device=device)
    pairs, pair_cond = (
        torch.stack([stack[0, 1:], stack[0, :1].expand(n, *stack.shape[2:])], dim=1)
        for stack in (x, cond)
    )

    def one_scene() -> Tensor:
        v, _ = model.forward_scene(x[:, 1:], x[:, 0], t, cond[:, 1:], cond[:, 0])
        return v[0]

    def paired() -> Tensor:
        v: Tensor = model(pairs, t.expand(n), pair_cond)
        return v[:, 0]

    with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16):
        ours, theirs = one_scene(), paired()
        apart = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        seconds = fastest({"N + 1": one_scene, "2N": paired}, config.repeats, device)
    print(f"{n} instances, {(16 // config.patch_size) ** 3} tokens, {config.channels} channels:")
    print(f"  velocities differ by {apart:.1e} of the largest")
    print(f"  N + 1: {seconds['N + 1'] * 1e3:.1f} ms, 2N: {seconds['2N'] * 1e3:.1f} ms a call")
    print(f"  one scene branch is {seconds['2N'] / seconds['N + 1']:.2f} times as fast")


def compare_attention(config: Compare, device: torch.device) -> None:
    tokens, depth = (16 // config.patch_size) ** 3, config.channels // config.num_heads
    generator = torch.Generator().manual_seed(1)
    shape = (3, config.num_instances + 1, config.num_heads, tokens, depth)
    dtype = torch.bfloat16 if config.bfloat16 else torch.float32
    q, k, v = torch.randn(shape, generator=generator).to(device, dtype)

    def copied() -> Tensor:
        keys, values = (
            torch.cat([part[:-1], part[-1:].expand(len(part) - 1, -1, -1, -1)], dim=2)
            for part in (k, v)
        )
        return F.scaled_dot_product_attention(q[:-1], keys, values)

    def merged() -> Tensor:
        return merge_attention(q[:-1], k, v)

    apart = (copied().float() - merged().float()).abs().max().item()
    seconds = fastest({"copied": copied, "merged": merged}, config.repeats, device)
    print("scene-context attention:")
    print(f"  outputs differ by {apart:.1e} at most")
    print(
        f"  copied keys: {seconds['copied'] * 1e3:.1f} ms, "
        f"merged by log-sum-exp: {seconds['merged'] * 1e3:.1f} ms"
    )
    print(f"  merged is {seconds['copied'] / seconds['merged']:.2f} times as fast as copied")


def merge_attention(q_NHLD: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend of N instances to themselves and to the scene, the last of the N + 1 keys.

    To the scene all instances' queries go as one long sequence, (1, H, N·L, D).
    """
    N, H, L, D = q_NHLD.shape
    own, own_lse = attend_with_lse(q_NHLD, k[:-1], v[:-1])
    folded = q_NHLD.transpose(0, 1).reshape(1, H, N * L, D)
    scene, scene_lse = attend_with_lse(folded, k[-1:], v[-1:])
    scene = scene.reshape(H, N, L, D).transpose(0, 1)
    scene_lse = scene_lse.reshape(H, N, L).transpose(0, 1)
    # softmax over both sets of keys weighs each by its share of the sum of exponentials.
    share = torch.sigmoid(own_lse - scene_lse)[..., None].to(own.dtype)
    return scene + share * (own - scene)


def attend_with_lse(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return attention (B, H, L, D) and the log of each query's sum of exponentials (B, H, L)."""
    if q.device.type == "cpu":
        attended, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[:2]
    elif q.dtype == torch.float32:
        attended, lse = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[
            :2
        ]
        lse = lse[..., : q.shape[2]]  # padded to a multiple of 32
    else:
        attended, lse = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[:2]
    return attended, lse


def random_model(config: Compare) -> SparseStructureSceneContextFlowModel:
    torch.manual_seed(0)
    model = SparseStructureSceneContextFlowModel(
        resolution=16,
        in_channels=8,
        out_channels=8,
        model_channels=config.channels,
        cond_channels=config.channels,
        num_blocks=config.num_blocks,
        num_heads=config.num_heads,
        patch_size=config.patch_size,
        qk_rms_norm=True,
        scene_context_attn_num=config.context_blocks,
    )
    for parameter in model.parameters():
        if not parameter.any():  # a fresh model's last layers are zero, and so are its outputs
            torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


def fastest(
    ways: dict[str, Callable[[], Tensor]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Return the seconds of the fastest run of each way; they take turns."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = clock()
            way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(clock() - started)
    return {name: min(values) for name, values in times.items()}


if __name__ == "__main__":
    main(tyro.cli(Compare))
