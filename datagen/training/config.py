"""The settings of a training, and the published ones."""

import math
from dataclasses import dataclass, field
from typing import Literal

from datagen.core.fields import how
from datagen.errors import ConfigError
from datagen.models import ModelSize
from datagen.models.dinov2 import DINOV2_LARGE
from datagen.models.structured_latent_model import SlatSize

AT_LEAST_ONE = (
    "max_steps",
    "batch_size",
    "instances_per_view",
    "checkpoint_every",
    "keep_last",
    "validate_every",
)


@dataclass(frozen=True, kw_only=True)
class FlowMatching:
    """The settings of rectified flow; defaults are TRELLIS's."""

    t_mean: float = 1.0
    """Mean of the normal distribution whose sigmoid gives t."""

    t_std: float = 1.0
    """Standard deviation of that normal distribution."""

    sigma_min: float = 1e-5
    """σ, the standard deviation of the noise at t = 0."""

    t_floor: float = 0.0
    """Below this t a sample's loss is multiplied by (t / t_floor)²; 0: never (TRELLIS).

    A model that predicts x_0 needs this: v = (x_t - x_0) / t divides its errors by a small t.
    """

    drop_condition: float = 0.1
    """Share of samples trained without condition (zeros), for guidance. All grids of a sample
    keep or lose it together."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a training.

    ``objective_of`` refuses settings that the chosen model does not support.
    """

    model: ModelSize | SlatSize = "small"
    """The network's size. slat-small is a latent model; it needs data of
    ``encode --store slat_features``."""

    image_encoder: str | None = None
    """A frozen image encoder: dinov2_vitl14_reg, a folder, a hub id or torch.hub's .pth file.
    None: the model's own encoder is trained with it."""

    scene_context_blocks: int | None = None
    """Number of middle blocks in which instances attend to their scene. None: as published."""

    low_rank_mean: bool = True
    """The small model also memorises the training views (``LowRankMean``). Turn it off for
    weights that other trainings start from."""

    max_steps: int = 1000
    """Optimizer steps."""

    batch_size: int = 4
    """Views per step, over all processes together. The number of processes does not change the
    training."""

    micro_batch_size: int | None = how(None)
    """Views that a process puts through the network at once; gradients of its views are added
    up. None: all its views at once."""

    instances_per_view: int = 3
    """Instances drawn from each view."""

    lr: float = 2e-3
    """Maximum learning rate."""

    lr_schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate after the warm-up: constant, or a cosine down to zero at the last step."""

    warmup_steps: int = 50
    """Steps over which the learning rate rises."""

    weight_decay: float = 0.0
    """Weight decay of AdamW."""

    grad_clip: float = 1.0
    """Maximum norm of the gradient."""

    adaptive_clip: bool = False
    """Also clip at the 95th percentile of the last 1,000 norms, once there are 1,000 (TRELLIS)."""

    ema_decay: float = 0.99
    """Decay of the averaged weights: the share that is kept at each step."""

    ema_warmup: bool = True
    """Use a smaller decay in the first steps, so that the average forgets the random start."""

    normalize_latents: bool = True
    """Give each latent channel mean 0 and the standard deviation that the model expects.
    TRELLIS trains on raw latents."""

    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of matrix products; weights and their updates are always float32."""

    flow: FlowMatching = field(default_factory=lambda: FlowMatching(t_std=2.0, t_floor=1.0))
    """Rectified flow. The default draws t from a wide distribution: sampling starts at t = 1, and
    a short training would see few such t. It also weighs losses by t², which gives the plain
    error of x_0, the value that the small model predicts."""

    activation_checkpointing: bool = how(False)
    """Compute the blocks a second time in the backward pass; this saves GPU memory."""

    compile_blocks: bool = how(False)
    """Compile the transformer blocks (torch.compile): faster on a GPU, different rounding."""

    fsdp: bool = how(False)
    """Split weights, gradients and optimizer state over the processes (FSDP). Off: every process
    holds all of them."""

    checkpoint_every: int = how(200)
    """Steps between saved states, from which a run resumes."""

    keep_last: int = how(2)
    """Saved states to keep."""

    validate_every: int = 200
    """Steps between validation losses. The model with the lowest loss is kept as ``best``."""

    val_views: int = 16
    """Number of held-out views for the validation loss."""

    sample_every: int = how(500)
    """Steps between sampled scenes: voxel IoU and images of held-out views. 0: never."""

    sampled_views: int = how(2)
    """Number of held-out views that are sampled."""

    seed: int = 0
    """Seed of the weights, of the samples' order and of all draws."""

    def __post_init__(self) -> None:
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ConfigError(f"micro_batch_size must be at least 1, got {self.micro_batch_size}.")
        if min(self.val_views, self.sample_every, self.sampled_views) < 0:
            raise ConfigError("val_views, sample_every and sampled_views must not be negative.")


ISCENE_L = TrainConfig(
    model="iscene-L",
    image_encoder=DINOV2_LARGE,
    max_steps=130_000,
    batch_size=64,
    micro_batch_size=8,
    instances_per_view=1,
    lr=5e-5,
    lr_schedule="constant",
    warmup_steps=0,
    adaptive_clip=True,
    ema_decay=0.9999,
    ema_warmup=False,
    normalize_latents=False,
    flow=FlowMatching(),
    checkpoint_every=1000,
    validate_every=1000,
    val_views=64,
    sample_every=10_000,
    sampled_views=4,
)
"""The paper's settings; TRELLIS's where the paper gives none.

The paper trains on 8 GPUs with 8 views each. Fewer GPUs take the same 64 views in several passes
of 8, which gives the same training.
"""


def config_of(model: str) -> TrainConfig | None:
    """Return the settings that a model was published with; None for this project's models."""
    return ISCENE_L if model == ISCENE_L.model else None


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    if config.lr_schedule == "constant":
        return config.lr * warmup
    return config.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / config.max_steps))
