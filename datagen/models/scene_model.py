"""The structure model: an image encoder and a scene-context flow model, in one module."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datagen.core.seeding import seed_for
from datagen.errors import ConfigError
from datagen.models.dinov2 import DinoV2
from datagen.models.image_encoder import ImageEncoder
from datagen.models.patches import unpatchify
from datagen.models.scene_context_flow import SparseStructureSceneContextFlowModel

ModelSize = Literal["small", "iscene-L"]

MEAN_HEAD_CHANNELS = 32
"""Channels that a head of PatchMean projects each image token to."""

TOKEN_FEATURES = 16
"""Channels that LowRankMean projects each image token to."""

DINOV2_CHANNELS = 1024
"""Channels of a frozen image encoder's tokens, those of DINOv2 ViT-L/14."""

LATENT = {"resolution": 16, "in_channels": 8, "out_channels": 8}

MODEL_ARGS: dict[ModelSize, dict[str, Any]] = {
    "small": {
        "flow": {
            **LATENT,
            "model_channels": 256,
            "cond_channels": 192,
            "num_blocks": 4,
            "num_heads": 4,
            "patch_size": 4,
            "qk_rms_norm": True,
            "predicts": "x_0",
            "data_std": 0.2,
            "scene_context_attn_num": 2,
        },
        "image_encoder": {"size_px": 128, "channels": 192, "num_blocks": 1, "num_heads": 3},
        "mean_heads": 16,
        "mean_rank": 256,
    },
    "iscene-L": {
        "flow": {
            **LATENT,
            "model_channels": 1024,
            "cond_channels": 1024,
            "num_blocks": 24,
            "num_heads": 16,
            "patch_size": 1,
            "qk_rms_norm": True,
            "scene_context_attn_num": 5,
        },
        "image_encoder": {"size_px": 512, "channels": 1024, "num_blocks": 4, "num_heads": 16},
    },
}
"""Arguments of a SceneModel by size: "iscene-L" is the paper's, "small" trains on a CPU in minutes.

Latents of surfaces in empty space are very redundant. At a standard deviation of 1, noise hides
them only close to t = 1, and few training steps would depend on the images. Hence the small
``data_std``.
"""


class PatchMean(nn.Module):
    """Mean latent of an image, by fixed, content-independent attention.

    An object's place depends on its silhouette almost linearly, yet a transformer needs thousands
    of steps to learn this. Here every head has a learned weight for each pair of grid patch and
    image token, and all patches share one linear map of the mixed tokens. Zero tokens (no
    condition) give zero.

    Shape suffixes: B batch, G grids of one sample, T image tokens, L patches, H heads, C channels.
    """

    def __init__(
        self,
        num_tokens: int,
        channels: int,
        heads: int,
        patch_size: int,
        out_shape: tuple[int, int, int, int],
    ) -> None:
        super().__init__()
        self.heads, self.patch_size, self.side = heads, patch_size, out_shape[1] // patch_size
        self.narrow = nn.Linear(channels, heads * MEAN_HEAD_CHANNELS, bias=False)
        mix = torch.randn(heads, self.side**3, num_tokens) / math.sqrt(num_tokens)
        self.mix_HLT = nn.Parameter(mix)
        patch_values = out_shape[0] * patch_size**3
        self.spread = nn.Linear(heads * MEAN_HEAD_CHANNELS, patch_values, bias=False)
        nn.init.zeros_(self.spread.weight)

    def forward(self, tokens_BGTC: Tensor) -> Tensor:
        """Return the mean latents (B, G, 8, R, R, R) of image tokens (B, G, T, C)."""
        B, G = tokens_BGTC.shape[:2]
        narrow = self.narrow(tokens_BGTC).unflatten(-1, (self.heads, -1))
        mixed = torch.einsum("hlt,bgthc->bglhc", self.mix_HLT.to(narrow.dtype), narrow)
        patches = self.spread(mixed.flatten(3))
        grids = unpatchify(patches.flatten(0, 1), self.patch_size, self.side)
        return grids.reshape(B, G, *grids.shape[1:])


class LowRankMean(nn.Module):
    """Correction to the mean latent for the training scenes: a low-rank linear map of all tokens.

    It memorises a few hundred training views in minutes and does not generalise. So pretrained
    weights leave it out, and training that starts from them begins with a fresh one, whose output
    is zero. After long training, most of the tokens' variance is equal for every image, and a
    linear map of such tokens learns slowly. Its input is therefore the difference from an empty
    image's tokens, scaled to unit variance.
    """

    def __init__(
        self, num_tokens: int, channels: int, rank: int, out_shape: tuple[int, int, int, int]
    ) -> None:
        super().__init__()
        self.out_shape = out_shape
        self.narrow = nn.Linear(channels, TOKEN_FEATURES, bias=False)
        self.mix = nn.Linear(num_tokens * TOKEN_FEATURES, rank, bias=False)
        self.spread = nn.Linear(rank, math.prod(out_shape), bias=False)
        nn.init.zeros_(self.spread.weight)

    def forward(self, tokens: Tensor, empty: Tensor) -> Tensor:
        """Return the corrections (B, G, 8, R, R, R).

        Args:
            tokens: (B, G, T, C), of the images; where all are zero (no condition), the result is 0.
            empty: (T, C), of an empty image.
        """
        is_given = tokens.any(dim=-1, keepdim=True).any(dim=-2, keepdim=True)
        change = (tokens - empty) * is_given
        change = change * (change.square().mean(dim=(-2, -1), keepdim=True) + 1e-6).rsqrt()
        mixed = self.mix(self.narrow(change).flatten(2))
        grids: Tensor = self.spread(mixed).unflatten(-1, self.out_shape)
        return grids


class SceneModel(nn.Module):
    """Velocities of the latents of a scene and its N instances, given their images.

    Every call takes one stack of grids, ``[scene, instance 0, instance 1, …]``, so that
    ``sample_flow`` can call the model directly. Latents in and out are normalised: see
    ``normalize``.
    """

    def __init__(
        self,
        flow: dict[str, Any],
        image_encoder: dict[str, Any] | str,
        mean_heads: int | None = None,
        mean_rank: int | None = None,
        local_slot: bool = False,
    ) -> None:
        """Build the parts.

        Args:
            flow: arguments of the flow model.
            image_encoder: arguments of one that is trained together with the flow model; or the
                name of a frozen one, which the caller loads and assigns to ``image_encoder``.
            mean_heads: heads of a PatchMean. The flow model then works on latents minus that mean.
            mean_rank: rank of a LowRankMean that is added to it.
            local_slot: every instance also has a slot in its own frame (I-Scene's "global local").
                The stack is then [scene, N instances, N instances in their own crops].
        """
        super().__init__()
        self.flow = SparseStructureSceneContextFlowModel(**flow)
        self.local_slot = local_slot
        self.image_encoder: ImageEncoder | DinoV2 | None = None
        self.image_encoder_name = image_encoder if isinstance(image_encoder, str) else None
        if not isinstance(image_encoder, str):
            self.image_encoder = ImageEncoder(**image_encoder)
        self.image_to_mean: PatchMean | None = None
        self.low_rank_mean: LowRankMean | None = None
        if mean_heads is not None:
            assert isinstance(self.image_encoder, ImageEncoder) and isinstance(image_encoder, dict)
            tokens = (self.image_encoder.num_tokens, image_encoder["channels"])
            grid = (flow["out_channels"], *[flow["resolution"]] * 3)
            self.image_to_mean = PatchMean(*tokens, mean_heads, flow["patch_size"], grid)
            if mean_rank is not None:
                self.low_rank_mean = LowRankMean(*tokens, mean_rank, grid)
        self.latent_mean: Tensor
        self.latent_std: Tensor
        shape = (flow["in_channels"], 1, 1, 1)
        self.register_buffer("latent_mean", torch.zeros(shape))
        self.register_buffer("latent_std", torch.ones(shape))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take mean and standard deviation of the latents' channels, (8, 1, 1, 1) each."""
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std / self.flow.data_std)

    def encode_images(self, images: Tensor) -> Tensor:
        """Return the tokens (B, N + 1, T, C) of uint8 images (B, N + 1, S, S, 3), scene first."""
        tokens: Tensor = self.conditioner(images)
        return tokens

    @property
    def conditioner(self) -> ImageEncoder | DinoV2:
        """The image encoder, trained or frozen.

        Raises:
            ConfigError: it is a frozen one that has not been loaded.
        """
        if self.image_encoder is None:
            raise ConfigError(
                f"this model's image encoder {self.image_encoder_name} is not loaded. "
                "Expected a model from `load_scene_model`, which loads it; give --image-encoder."
            )
        return self.image_encoder

    def forward(self, x: Tensor, t_times_1000: Tensor, cond: Tensor) -> Tensor:
        """Return the velocities (B, N + 1, 8, R, R, R) of a stack of grids.

        Args:
            x: (B, N + 1, 8, R, R, R), noisy latents, scene first.
            t_times_1000: (B,), the noise time that all grids of a sample share, times 1000.
            cond: (B, N + 1, T, C), image tokens. With a local slot, 2 N + 1 of each.
        """
        if self.image_to_mean is None:
            return self._flow_velocity(x, t_times_1000, cond)
        # The flow model works on the residual r_0 = x_0 - μ, with μ the mean from the images:
        # r_t = (1 - t)·r_0 + t·ε = x_t - (1 - t)·μ, and its velocity is ε - r_0 = v + μ.
        mean: Tensor = self.image_to_mean(cond)
        if self.low_rank_mean is not None:
            mean = mean + self.low_rank_mean(cond, self._empty_tokens(cond.device))
        t = (t_times_1000 / 1000).reshape(-1, 1, 1, 1, 1, 1)
        residual = x - (1 - t) * mean
        return self._flow_velocity(residual, t_times_1000, cond) - mean

    def _empty_tokens(self, device: torch.device) -> Tensor:
        assert isinstance(self.image_encoder, ImageEncoder)
        side = self.image_encoder.size_px
        empty = torch.zeros(1, 1, side, side, 3, dtype=torch.uint8, device=device)
        tokens: Tensor = self.image_encoder(empty)[0, 0]
        return tokens

    def _flow_velocity(self, x: Tensor, t_times_1000: Tensor, cond: Tensor) -> Tensor:
        if self.local_slot:
            return self._slots_velocity(x, t_times_1000, cond)
        v_instances, v_scene = self.flow.forward_scene(
            x[:, 1:], x[:, 0], t_times_1000, cond[:, 1:], cond[:, 0]
        )
        return torch.cat([v_scene[:, None], v_instances], dim=1)

    def _slots_velocity(self, x: Tensor, t_times_1000: Tensor, cond: Tensor) -> Tensor:
        """Run the published slots [instance, scene, local], with the scene once per instance."""
        num_instances = (x.shape[1] - 1) // 2

        def slots(stack: Tensor) -> Tensor:
            scene, instances = stack[:, :1], stack[:, 1 : 1 + num_instances]
            local = stack[:, 1 + num_instances :]
            return torch.stack([instances, scene.expand_as(instances), local], dim=2).flatten(0, 1)

        t = t_times_1000.repeat_interleave(num_instances)
        v = self.flow(slots(x), t, slots(cond)).reshape(len(x), num_instances, 3, *x.shape[2:])
        return torch.cat([v[:, :1, 1], v[:, :, 0], v[:, :, 2]], dim=1)

    def normalize(self, latent: Tensor) -> Tensor:
        """Return the flow model's latents (..., 8, R, R, R) for those of the encoder."""
        return (latent - self.latent_mean) / self.latent_std

    def denormalize(self, x_0: Tensor) -> Tensor:
        """Return the decoder's latents (..., 8, R, R, R) for samples; inverts ``normalize``."""
        return x_0 * self.latent_std + self.latent_mean


def model_args(
    size: ModelSize | Mapping[str, Any],
    image_encoder: str | None = None,
    scene_context_blocks: int | None = None,
    low_rank_mean: bool = True,
) -> dict[str, Any]:
    """Return the arguments of a SceneModel.

    Args:
        size: a key of ``MODEL_ARGS``, or arguments like its values.
        image_encoder: name of a frozen encoder whose tokens have 1024 channels (DINOv2 ViT-L/14).
            It replaces the trained encoder, and PatchMean and LowRankMean with it.
        scene_context_blocks: middle blocks in which instances attend to the scene. None: as many
            as the size has.
        low_rank_mean: False leaves out the size's LowRankMean.

    Raises:
        ConfigError: ``scene_context_blocks`` is above the number of blocks.
    """
    args = dict(MODEL_ARGS[size] if isinstance(size, str) else size)
    flow = dict(args["flow"])
    if image_encoder is not None:
        args["image_encoder"] = image_encoder
        if args.pop("mean_heads", None) is not None:  # its flow model fits its own encoder
            flow["cond_channels"] = DINOV2_CHANNELS
    if image_encoder is not None or not low_rank_mean:
        args.pop("mean_rank", None)
    if scene_context_blocks is not None:
        if not 0 <= scene_context_blocks <= flow["num_blocks"]:
            raise ConfigError(
                f"scene_context_blocks is {scene_context_blocks}. Expected 0 to "
                f"{flow['num_blocks']}, the number of blocks of the network."
            )
        flow["scene_context_attn_num"] = scene_context_blocks
    return args | {"flow": flow}


def build_model(size: ModelSize | Mapping[str, Any], seed: int, **options: Any) -> SceneModel:
    """Return a freshly initialised model; the same seed gives the same weights.

    Args:
        size: a key of ``MODEL_ARGS``, or arguments like its values.
        seed: of the weights; torch's own generator is left as it was.
        options: those of ``model_args``. With ``image_encoder``, the caller assigns the loaded
            encoder to the model's ``image_encoder``.

    Raises:
        ConfigError: as ``model_args`` raises it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "model"))
        return SceneModel(**model_args(size, **options))
