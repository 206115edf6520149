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
    """The numbers of the training objective; defaults are TRELLIS's."""

    t_mean: float = 1.0
    """Mean of the normal whose sigmoid is t."""

    t_std: float = 1.0
    """Its standard deviation."""

    sigma_min: float = 1e-5
    """σ, the spread left at t = 0."""

    t_floor: float = 0.0
    """Below this t a sample's loss is scaled by (t / t_floor)²; 0: never (TRELLIS).

    Where the model predicts x_0, v = (x_t - x_0) / t multiplies its errors without bound.
    """

    drop_condition: float = 0.1
    """Share of samples whose condition is zeros, for guidance; all grids of a sample together."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a trained model, besides the samples.

    What a kind of model cannot do is refused by its objective: see ``objective_of``.
    """

    model: ModelSize | SlatSize = "small"
    """The network's size; slat-small: a latent model, on ``encode --store slat_features``."""

    image_encoder: str | None = None
    """A frozen image encoder (dinov2_vitl14_reg, a folder, a hub id or torch.hub's .pth file);
    None: one of our own is trained along."""

    scene_context_blocks: int | None = None
    """Middle blocks in which the instances see their scene; 0: none. None: the model's own."""

    low_rank_mean: bool = True
    """Let the small model learn the views at hand by heart too (``LowRankMean``); off for weights
    that other trainings start from."""

    max_steps: int = 1000
    """Optimizer steps."""

    batch_size: int = 4
    """Views a step, over all processes together: their number does not change the training."""

    micro_batch_size: int | None = how(None)
    """Views that a process has in the network at once; gradients of the rest of its share are
    added. None: the whole share."""

    instances_per_view: int = 3
    """Instances drawn from each of them."""

    lr: float = 2e-3
    """Highest learning rate."""

    lr_schedule: Literal["constant", "cosine"] = "cosine"
    """What follows the warm-up: the same rate, or a fall to zero at the last step."""

    warmup_steps: int = 50
    """Steps over which the learning rate rises."""

    weight_decay: float = 0.0
    """AdamW's."""

    grad_clip: float = 1.0
    """Highest norm of the gradient."""

    adaptive_clip: bool = False
    """Clip at the 95th percentile of the last 1,000 norms too, once there are as many (TRELLIS)."""

    ema_decay: float = 0.99
    """Share of the averaged weights that a step keeps."""

    ema_warmup: bool = True
    """Keep less in the first steps: a short run must not average over its random start."""

    normalize_latents: bool = True
    """Give each latent channel mean 0 and the spread that the model expects (TRELLIS does not)."""

    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """What matrix products are computed in (weights and their updates stay in float32)."""

    flow: FlowMatching = field(default_factory=lambda: FlowMatching(t_std=2.0, t_floor=1.0))
    """The objective. Default: wide times, since a short training meets t near 1 too seldom, where
    sampling starts; and the plain error of x_0, which the small model predicts."""

    activation_checkpointing: bool = how(False)
    """Compute the blocks a second time in the backward pass instead of keeping what is in them."""

    compile_blocks: bool = how(False)
    """Compile the transformer blocks (torch.compile): faster on a GPU, other last bits."""

    fsdp: bool = how(False)
    """Several processes: share out weights, gradients and optimizer (FSDP); else each has all."""

    checkpoint_every: int = how(200)
    """Steps between states to resume from."""

    keep_last: int = how(2)
    """States to keep."""

    validate_every: int = 200
    """Steps between validation losses; the model of the lowest is kept as ``best``."""

    val_views: int = 16
    """Held-out views that the validation loss is measured on."""

    sample_every: int = how(500)
    """Steps between sampled scenes: voxel IoU and pictures of held-out views; 0: never."""

    sampled_views: int = how(2)
    """Held-out views that are sampled."""

    seed: int = 0

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
"""The paper's numbers (8 views on each of 8 GPUs: fewer GPUs take their 64 in turns, so the
training is the same one); where it is silent, TRELLIS's."""


def config_of(model: str) -> TrainConfig | None:
    """Return the settings that a model was published with; None for a model of our own."""
    return ISCENE_L if model == ISCENE_L.model else None


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step counted from 0: the whole scheduler, without a state."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    if config.lr_schedule == "constant":
        return config.lr * warmup
    return config.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / config.max_steps))
