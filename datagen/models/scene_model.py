"""The trained whole: an image encoder and a scene-context flow model, in one module."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datagen.core.seeding import seed_for
from datagen.errors import ConfigError
from datagen.models.dinov2 import DinoV2
from datagen.models.image_encoder import ImageEncoder
from datagen.models.scene_context_flow import SparseStructureSceneContextFlowModel
from datagen.models.sparse_structure_flow import unpatchify

ModelSize = Literal["small", "iscene-L"]

HEAD_CHANNELS = 32
"""What a head of PatchMean takes of each image token."""

TOKEN_FEATURES = 16
"""What LowRankMean takes of each image token."""

DINOV2_CHANNELS = 1024
"""Of a frozen image encoder's tokens: DINOv2 ViT-L/14's."""

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
"""The flow model's numbers of "iscene-L" are the paper's; "small" learns on a CPU in minutes.

Latents of surfaces in empty space say the same thing many times over: at spread 1, noise hides them
only close to t = 1, and hardly a step would learn to look at the images. Hence the small spread.
"""


class PatchMean(nn.Module):
    """The latent that an image suggests at first sight: attention that does not look.

    What a silhouette says of a thing's place is almost linear, and a transformer takes thousands
    of steps to find it. Here the mix of image tokens that a patch of the grid takes is a weight of
    each head, and what a patch makes of its mix is shared by all. Zero tokens (no condition) give
    zero.

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
        self.narrow = nn.Linear(channels, heads * HEAD_CHANNELS, bias=False)
        mix = torch.randn(heads, self.side**3, num_tokens) / math.sqrt(num_tokens)
        self.mix_HLT = nn.Parameter(mix)
        self.spread = nn.Linear(heads * HEAD_CHANNELS, out_shape[0] * patch_size**3, bias=False)
        nn.init.zeros_(self.spread.weight)

    def forward(self, tokens_BGTC: Tensor) -> Tensor:
        """Map tokens (B, G, T, C) to grids (B, G, 8, R, R, R)."""
        B, G = tokens_BGTC.shape[:2]
        narrow = self.narrow(tokens_BGTC).unflatten(-1, (self.heads, -1))
        mixed = torch.einsum("hlt,bgthc->bglhc", self.mix_HLT.to(narrow.dtype), narrow)
        patches = self.spread(mixed.flatten(3))
        grids = unpatchify(patches.flatten(0, 1), self.patch_size, self.side)
        return grids.reshape(B, G, *grids.shape[1:])


class LowRankMean(nn.Module):
    """What PatchMean leaves over, for the scenes at hand: a low-rank linear map of all tokens.

    It learns a few hundred views by heart in minutes and says nothing of others, so pretrained
    weights leave it out, and a training that starts from them begins with zeros. Long trainings
    make tokens whose variance is mostly the same for every picture, and a linear map of those
    learns slowly: here they are what differs from an empty picture, scaled to unit variance.
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
        """Map tokens (B, G, T, C) and those of an empty picture (T, C) to (B, G, 8, R, R, R)."""
        is_given = tokens.any(dim=-1, keepdim=True).any(dim=-2, keepdim=True)
        seen = (tokens - empty) * is_given
        seen = seen * (seen.square().mean(dim=(-2, -1), keepdim=True) + 1e-6).rsqrt()
        mixed = self.mix(self.narrow(seen).flatten(2))
        grids: Tensor = self.spread(mixed).unflatten(-1, self.out_shape)
        return grids


class SceneModel(nn.Module):
    """Velocities of a scene and its instances, from their images.

    One stack of grids, ``[scene, instance 0, instance 1, …]``, goes through every call, so that
    ``sample_flow`` can take the model as it is. Latents in and out are normalised: see
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
            image_encoder: arguments of one that is trained along; or the name of a frozen one,
                which whoever loads the model puts into ``image_encoder``.
            mean_heads: adds a PatchMean about which the flow is run.
            mean_rank: adds a LowRankMean to that.
            local_slot: every instance also has a slot of its own frame (I-Scene's "global local"):
                the stack is [scene, N instances, N instances in crops of their own].
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
        """Turn uint8 images (B, N + 1, S, S, 3), scene first, into tokens (B, N + 1, T, C)."""
        tokens: Tensor = self.conditioner(images)
        return tokens

    @property
    def conditioner(self) -> ImageEncoder | DinoV2:
        """The image encoder, trained along or frozen.

        Raises:
            ConfigError: it is a frozen one that has not been loaded.
        """
        if self.image_encoder is None:
            raise ConfigError(
                f"this model is conditioned by {self.image_encoder_name}, which is not loaded. "
                "Expected `load_scene_model`, which loads it; give --image-encoder."
            )
        return self.image_encoder

    def forward(self, x: Tensor, t_times_1000: Tensor, cond: Tensor) -> Tensor:
        """Return the velocities (B, N + 1, 8, R, R, R) of a stack of grids at t (B,)."""
        if self.image_to_mean is None:
            return self._flow_velocity(x, t_times_1000, cond)
        # With μ the mean that the images suggest, r_0 = x_0 - μ has a flow of its own:
        # r_t = (1 - t)·r_0 + t·ε = x_t - (1 - t)·μ, with the velocity ε - r_0 = v + μ.
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
        """Run the published slots [instance, scene, local], the scene again for each instance."""
        num_instances = (x.shape[1] - 1) // 2

        def slots(stack: Tensor) -> Tensor:
            scene, instances = stack[:, :1], stack[:, 1 : 1 + num_instances]
            local = stack[:, 1 + num_instances :]
            return torch.stack([instances, scene.expand_as(instances), local], dim=2).flatten(0, 1)

        t = t_times_1000.repeat_interleave(num_instances)
        v = self.flow(slots(x), t, slots(cond)).reshape(len(x), num_instances, 3, *x.shape[2:])
        return torch.cat([v[:, :1, 1], v[:, :, 0], v[:, :, 2]], dim=1)

    def normalize(self, latent: Tensor) -> Tensor:
        """Turn the encoder's latents (…, 8, R, R, R) into what the flow model works on."""
        return (latent - self.latent_mean) / self.latent_std

    def denormalize(self, x_0: Tensor) -> Tensor:
        """Turn samples (…, 8, R, R, R) into latents for the decoder."""
        return x_0 * self.latent_std + self.latent_mean


def model_args(
    size: ModelSize | Mapping[str, Any],
    image_encoder: str | None = None,
    scene_context_blocks: int | None = None,
    low_rank_mean: bool = True,
) -> dict[str, Any]:
    """Return the arguments of a SceneModel.

    Args:
        size: which of ``MODEL_ARGS``, or arguments like theirs.
        image_encoder: a frozen encoder's name (DINOv2 ViT-L/14's 1024 channels) takes the place of
            our own, and of the means that are made of its tokens.
        scene_context_blocks: middle blocks in which instances see the scene; None: the size's.
        low_rank_mean: with its LowRankMean, if it has one.

    Raises:
        ConfigError: the network has fewer blocks.
    """
    args = dict(MODEL_ARGS[size] if isinstance(size, str) else size)
    flow = dict(args["flow"])
    if image_encoder is not None:
        args["image_encoder"] = image_encoder
        if args.pop("mean_heads", None) is not None:  # a size made for its own encoder's tokens
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

    ``size`` and ``options`` are those of ``model_args``. With ``image_encoder`` its own encoder is
    left out, and the caller puts the loaded one into the model's ``image_encoder``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "model"))
        return SceneModel(**model_args(size, **options))
