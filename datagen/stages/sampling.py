"""What the two ways of ``datagen infer`` share: the networks, and the files of a sampled scene."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datagen.core.fields import content, how
from datagen.engine.stage import Inputs
from datagen.engine.units import UnitStage, WorkerContext
from datagen.errors import ConfigError
from datagen.models import (
    find_scene_model,
    load_scene_model,
)
from datagen.models.devices import torch_device, torch_threads
from datagen.models.named_checkpoints import (
    checkpoint_fingerprint,
    load_autoencoder,
    resolve_checkpoint,
    weights_sha256,
)
from datagen.sampling.appearance import (
    AppearanceConfig,
    add_appearance,
)
from datagen.sampling.networks import Networks, load_latent_networks, read_scene_model
from datagen.sampling.predictions import Prediction
from datagen.sampling.scenes import SamplerConfig, SceneImages, image_tokens, sample_scene
from datagen.shards.declared import MODEL
from datagen.shards.tables import Table
from datagen.stages.worker_blender import worker_blender

logger = logging.getLogger(__name__)

TRELLIS = "microsoft/TRELLIS-image-large/ckpts"


@dataclass(frozen=True, kw_only=True)
class SamplingStage(UnitStage):
    """Fields and networks of a stage that samples scenes."""

    reads: ClassVar[tuple[Table, ...]] = (MODEL,)
    uses_gpu: ClassVar[bool] = True

    model: str | None = content(
        lambda stage: stage._model_fingerprint(), default=None, with_value=True
    )
    """A model instead of the workspace's: ``small``, the embedded one; NAME of NAME.json and
    NAME.safetensors (ours, or TRELLIS's flow), or I-Scene's package; a path or a hub id."""
    image_encoder: str | None = None
    """Its frozen encoder: dinov2_vitl14_reg, a folder, a hub id or torch.hub's .pth file. Default:
    the one that belongs to the model."""
    decoder: str = content(
        lambda stage: checkpoint_fingerprint(stage.decoder, "decoder"), "small", with_value=True
    )
    """The decoder that belongs to the encoder of the latents."""
    models: tuple[Literal["structure", "latent"], ...] = ("structure",)
    """structure: grey surfaces from the sampled voxels. structure latent: textured meshes instead,
    by TRELLIS's structured-latent model, whose networks the next three fields name."""
    slat_flow: str = content(
        lambda stage: stage._latent_fingerprints(),
        f"{TRELLIS}/slat_flow_img_dit_L_64l8p2_fp16",
        with_value=True,
    )
    """Flow model of structured latents: NAME, a path without suffix or a hub id."""
    slat_mesh_decoder: str = f"{TRELLIS}/slat_dec_mesh_swin8_B_64l8m256c_fp16"
    """Its mesh decoder."""
    slat_gaussian_decoder: str | None = None
    """Its Gaussian decoder; with it, instance_XX.ply is written too. TRELLIS's is
    slat_dec_gs_swin8_B_64l8gs32_fp16 beside the others."""
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    """Meshes and textures of the latent model."""
    textured_preview: bool = how(True)
    """With the latent model: let Blender render the textured scene into preview.png."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The sampler, of both models."""
    max_batch: int | None = how(None)
    """Most instances in the network at once; by default as many as the memory holds."""
    scenes_per_shard: int = 8
    """Scenes a shard."""
    seed: int = 0
    """Of the noise."""

    def __post_init__(self) -> None:
        for name in ("max_batch", "scenes_per_shard"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")
        if self.models not in (("structure",), ("structure", "latent")):
            raise ConfigError(
                f"--models {' '.join(self.models) or 'without a value'}: the latent model works on "
                "what the structure model samples. Expected `--models structure` or "
                "`--models structure latent`."
            )
        if self.sampler.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.sampler.steps}.")
        if self.image_encoder is not None and self.model is None:
            raise ConfigError(
                f"--image-encoder {self.image_encoder}: the workspace's model knows its encoder. "
                "Expected --model beside it, or neither."
            )

    def input_names(self) -> tuple[str, ...]:
        """A published model takes the place of the workspace's."""
        names = super().input_names()
        return tuple(name for name in names if name != MODEL.folder or self.model is None)

    def _latent_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each network of the latent model, where it is asked for."""
        return {name: weights_sha256(path) for name, path in self._latent_checkpoints().items()}

    def _latent_checkpoints(self) -> dict[str, str]:
        """Return the checkpoints of the latent model by role; none where it is not asked for."""
        if "latent" not in self.models:
            return {}
        named = {"slat_flow": self.slat_flow, "slat_mesh_decoder": self.slat_mesh_decoder}
        if self.slat_gaussian_decoder is not None:
            named["slat_gaussian_decoder"] = self.slat_gaussian_decoder
        return named

    def _model_fingerprint(self) -> str | None:
        if self.model is None:
            return None
        files = find_scene_model(resolve_checkpoint(self.model, "model"))
        if files.kind != "trained" and self.decoder == "small":
            raise ConfigError(
                f"--decoder small: {self.model} samples TRELLIS's latents, which another decoder "
                f"reads. Expected --decoder {TRELLIS}/ss_dec_conv3d_16l8_fp16, or the path of that "
                "file without suffix."
            )
        digest = hashlib.sha256()
        for path in (files.config, *files.weights):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @contextmanager
    def networks(self, inputs: Inputs, context: WorkerContext) -> Iterator[Networks]:
        """Load the networks for a worker; torch keeps to its share of the cores."""
        device = torch_device(context.settings.device)
        model = (
            read_scene_model(inputs["model"], device)
            if self.model is None
            else load_scene_model(
                resolve_checkpoint(self.model, "model"),
                device=device,
                image_encoder=self.image_encoder,
            )
        )
        decoder = load_autoencoder(self.decoder, "decoder", device)
        second = load_latent_networks(self._latent_checkpoints(), device)
        with ExitStack() as stack:
            blender = None
            if second is not None and self.textured_preview:
                blender = stack.enter_context(worker_blender(context))
            stack.enter_context(torch_threads(context.threads))
            yield Networks(model, decoder, second, blender)

    def logits(
        self,
        networks: Networks,
        rgba: NDArray[np.uint8],
        instance_map: NDArray[np.integer[Any]],
        num_instances: int,
        seed: int,
    ) -> NDArray[np.float32]:
        """Return the logits (N + 1, 64, 64, 64), scene first, of a picture and its masks."""
        images = SceneImages.cut(networks.model, rgba, instance_map, num_instances)
        return self._logits(networks, images, seed)

    def predict(
        self,
        networks: Networks,
        rgba: NDArray[np.uint8],
        instance_map: NDArray[np.integer[Any]],
        num_instances: int,
        seed: int,
    ) -> Prediction:
        """Sample with all models that are asked for; images are encoded once for both."""
        images = SceneImages.cut(networks.model, rgba, instance_map, num_instances)
        if networks.latent is None:
            return Prediction(self._logits(networks, images, seed), None)
        tokens = image_tokens(networks.model, images)
        logits = self._logits(networks, images, seed, tokens)
        appearances = add_appearance(
            networks.latent,
            tokens[1 : 1 + num_instances],
            logits[1:] > 0,
            self.sampler,
            self.appearance,
            seed,
        )
        return Prediction(logits, appearances)

    def _logits(
        self, networks: Networks, images: SceneImages, seed: int, tokens: Tensor | None = None
    ) -> NDArray[np.float32]:
        return sample_scene(
            networks.model,
            networks.decoder,
            images,
            self.sampler,
            seed,
            max_batch=self.max_batch,
            tokens=tokens,
        )
