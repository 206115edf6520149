"""Base of the two stages of ``datagen infer``: their fields, networks and sampling."""

import hashlib
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
from datagen.models import find_scene_model, load_scene_model
from datagen.models.devices import torch_device, torch_threads
from datagen.models.named_checkpoints import (
    checkpoint_fingerprint,
    load_autoencoder,
    resolve_checkpoint,
    weights_sha256,
)
from datagen.sampling.appearance import AppearanceConfig, add_appearance
from datagen.sampling.networks import Networks, load_latent_networks, read_scene_model
from datagen.sampling.predictions import Prediction
from datagen.sampling.scenes import SamplerConfig, SceneImages, image_tokens, sample_scene
from datagen.shards.declared import MODEL
from datagen.shards.tables import Table
from datagen.stages.worker_blender import worker_blender

TRELLIS = "microsoft/TRELLIS-image-large/ckpts"
"""Folder of the published checkpoints: a Hugging Face repository and a path in it."""


@dataclass(frozen=True, kw_only=True)
class SamplingStage(UnitStage):
    """Fields, networks and sampling of a stage that samples scenes from images."""

    reads: ClassVar[tuple[Table, ...]] = (MODEL,)
    uses_gpu: ClassVar[bool] = True

    model: str | None = content(
        lambda stage: stage._model_fingerprint(), default=None, with_value=True
    )
    """Use this model instead of the workspace's: ``small`` (embedded in datagen); a path without
    suffix (NAME for NAME.json and NAME.safetensors) or a Hugging Face id of our model or TRELLIS's
    flow model; or I-Scene's package."""
    image_encoder: str | None = None
    """Frozen image encoder of --model: dinov2_vitl14_reg, a folder, a Hugging Face id, or a .pth
    file of torch.hub. By default the encoder that the model was trained with."""
    decoder: str = content(
        lambda stage: checkpoint_fingerprint(stage.decoder, "decoder"), "small", with_value=True
    )
    """Sparse-structure decoder, from latents to voxels. It must match the latents' encoder."""
    models: tuple[Literal["structure", "latent"], ...] = ("structure",)
    """structure: grey surfaces of the sampled voxels. structure latent: textured meshes from
    TRELLIS's structured-latent model, whose networks are the next three options."""
    slat_flow: str = content(
        lambda stage: stage._latent_fingerprints(),
        f"{TRELLIS}/slat_flow_img_dit_L_64l8p2_fp16",
        with_value=True,
    )
    """Structured-latent flow model: a path without suffix, or a Hugging Face id."""
    slat_mesh_decoder: str = f"{TRELLIS}/slat_dec_mesh_swin8_B_64l8m256c_fp16"
    """Mesh decoder of the structured latents."""
    slat_gaussian_decoder: str | None = None
    """Gaussian decoder of the structured latents. If given, instance_XX.ply is written too. In
    TRELLIS: slat_dec_gs_swin8_B_64l8gs32_fp16."""
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    """Meshes and textures made by the latent model."""
    textured_preview: bool = how(True)
    """With the latent model: add a Blender rendering of the textured scene to preview.png."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The sampler of both models."""
    max_batch: int | None = how(None)
    """Maximum number of instances per network batch. By default as many as fit into memory."""
    scenes_per_shard: int = 8
    """Scenes per shard (one Parquet file)."""
    seed: int = 0
    """Random seed of the noise."""

    def __post_init__(self) -> None:
        for name in ("max_batch", "scenes_per_shard"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")
        if self.models not in (("structure",), ("structure", "latent")):
            raise ConfigError(
                f"--models {' '.join(self.models) or 'without a value'}: the latent model needs "
                "the output of the structure model. Expected `--models structure` or "
                "`--models structure latent`."
            )
        if self.sampler.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.sampler.steps}.")
        if self.image_encoder is not None and self.model is None:
            raise ConfigError(
                f"--image-encoder {self.image_encoder}: the workspace's model knows its encoder. "
                "Expected --model too; otherwise leave --image-encoder out."
            )

    def input_names(self) -> tuple[str, ...]:
        """Return the folders that are read; with ``--model``, without the workspace's model."""
        names = super().input_names()
        return tuple(name for name in names if name != MODEL.folder or self.model is None)

    def _latent_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each network of the latent model; none if it is not used."""
        return {name: weights_sha256(path) for name, path in self._latent_checkpoints().items()}

    def _latent_checkpoints(self) -> dict[str, str]:
        """Return the checkpoint of each network of the latent model; none if it is not used."""
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
                f"--decoder small: {self.model} samples TRELLIS's latents, which need another "
                f"decoder. Expected --decoder {TRELLIS}/ss_dec_conv3d_16l8_fp16, or the path of "
                "that file without suffix."
            )
        digest = hashlib.sha256()
        for path in (files.config, *files.weights):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @contextmanager
    def networks(self, inputs: Inputs, context: WorkerContext) -> Iterator[Networks]:
        """Load the networks for a worker, and limit torch to the worker's threads."""
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
        latent = load_latent_networks(self._latent_checkpoints(), device)
        with ExitStack() as stack:
            blender = None
            if latent is not None and self.textured_preview:
                blender = stack.enter_context(worker_blender(context))
            stack.enter_context(torch_threads(context.threads))
            yield Networks(model, decoder, latent, blender)

    def logits(
        self,
        networks: Networks,
        rgba: NDArray[np.uint8],
        instance_map: NDArray[np.integer[Any]],
        num_instances: int,
        seed: int,
    ) -> NDArray[np.float32]:
        """Return the occupancy logits sampled from an image: (N + 1, 64, 64, 64), scene first.

        Args:
            networks: from ``networks``.
            rgba: (H, W, 4), uint8, sRGB with straight alpha.
            instance_map: (H, W), integer; 0 is the background, i + 1 is instance i.
            num_instances: N.
            seed: of the noise.
        """
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
        """Return the scene sampled from an image by the models in ``models``.

        The images are encoded once for both models. Arguments are those of ``logits``: an image
        (H, W, 4), its instance map (H, W), the number of instances and the seed.
        """
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
