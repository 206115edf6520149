"""What the two ways of ``datagen infer`` share: the networks, and the files of a sampled scene."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datagen.blender import BlenderProcess
from datagen.errors import ConfigError, DatasetError, RowError, StageError
from datagen.models import (
    SceneModel,
    SLatFlowModel,
    SLatGaussianDecoder,
    SLatMeshDecoder,
    find_scene_model,
    load_model,
    load_scene_model,
)
from datagen.sampling.gaussian_ply import write_gaussian_ply
from datagen.sampling.previews import write_preview
from datagen.sampling.scenes import SamplerConfig, SceneImages, image_tokens, sample_scene
from datagen.sampling.second_stage import (
    Appearance,
    AppearanceConfig,
    SecondStage,
    add_appearance,
)
from datagen.sampling.surfaces import (
    instance_name,
    surface_from_logits,
    write_instance_glbs,
    write_scene_glb,
)
from datagen.sampling.textured_mesh import write_textured_glb
from datagen.sampling.textured_previews import render_textured
from datagen.shards import Dataset, Identity, Row
from datagen.stages.checkpoints import (
    checkpoint_fingerprint,
    load_autoencoder,
    resolve_checkpoint,
    torch_device,
    torch_threads,
    weights_sha256,
)
from datagen.stages.logs import log_folder
from datagen.stages.stage import Inputs, Stage, WorkerContext

logger = logging.getLogger(__name__)

TRELLIS = "microsoft/TRELLIS-image-large/ckpts"


@dataclass(frozen=True)
class Networks:
    """A model and its decoder, on their device."""

    model: SceneModel
    decoder: torch.nn.Module
    second: SecondStage | None = None
    """For textured meshes; None where stage one alone is asked for."""
    blender: BlenderProcess | None = None
    """Renders the textured scene for its preview; None where that is not asked for."""


@dataclass(frozen=True)
class Prediction:
    """What was sampled of one scene."""

    logits: NDArray[np.float32]
    """(N + 1, R, R, R), the scene first; above 0 is occupied."""
    appearances: Mapping[int, Appearance] | None
    """By instance, those that have a surface; None where stage one alone was asked for."""


@dataclass(frozen=True, kw_only=True)
class SamplingStage(Stage):
    """Fields and networks of a stage that samples scenes."""

    reads: ClassVar[tuple[str, ...]] = ("model",)
    uses_gpu: ClassVar[bool] = True

    model: str | None = None
    """A model instead of the workspace's: ``small``, the embedded one; NAME of NAME.json and
    NAME.safetensors (ours, or TRELLIS's flow), or I-Scene's package; a path or a hub id."""
    image_encoder: str | None = None
    """Its frozen encoder: dinov2_vitl14_reg, a folder, a hub id or torch.hub's .pth file. Default:
    the one that belongs to the model."""
    decoder: str = "small"
    """The decoder that belongs to the encoder of the latents."""
    stages: Literal["ss", "ss,slat"] = "ss"
    """ss: grey surfaces from the sampled voxels. ss,slat: textured meshes instead, by TRELLIS's
    second stage, whose networks the next three fields name."""
    slat_flow: str = f"{TRELLIS}/slat_flow_img_dit_L_64l8p2_fp16"
    """Flow model of structured latents: NAME, a path without suffix or a hub id."""
    slat_mesh_decoder: str = f"{TRELLIS}/slat_dec_mesh_swin8_B_64l8m256c_fp16"
    """Its mesh decoder."""
    slat_gaussian_decoder: str | None = None
    """Its Gaussian decoder; with it, instance_XX.ply is written too. TRELLIS's is
    slat_dec_gs_swin8_B_64l8gs32_fp16 beside the others."""
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    """Meshes and textures of the second stage."""
    textured_preview: bool = field(default=True, metadata={"identity": False})
    """With ss,slat: let Blender render the textured scene into preview.png."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The sampler, of both stages."""
    max_batch: int | None = field(default=None, metadata={"identity": False})
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
        if self.sampler.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.sampler.steps}.")
        if self.image_encoder is not None and self.model is None:
            raise ConfigError(
                f"--image-encoder {self.image_encoder}: the workspace's model knows its encoder. "
                "Expected --model beside it, or neither."
            )

    def input_names(self) -> tuple[str, ...]:
        """A published model takes the place of the workspace's."""
        return tuple(name for name in self.reads if name != "model" or self.model is None)

    def identity(self, inputs: Inputs) -> Identity:
        """Networks are known by their weights."""
        identity = super().identity(inputs)
        weights = {"decoder": checkpoint_fingerprint(self.decoder, "decoder")}
        weights |= {name: weights_sha256(path) for name, path in self._second_stage().items()}
        if self.model is not None:
            weights["model"] = self._model_fingerprint(self.model)
        return replace(identity, inputs={**identity.inputs, **weights})

    def _second_stage(self) -> dict[str, str]:
        """Return the checkpoints of the second stage by role; none where it is not asked for."""
        if self.stages == "ss":
            return {}
        named = {"slat_flow": self.slat_flow, "slat_mesh_decoder": self.slat_mesh_decoder}
        if self.slat_gaussian_decoder is not None:
            named["slat_gaussian_decoder"] = self.slat_gaussian_decoder
        return named

    def _model_fingerprint(self, model: str) -> str:
        files = find_scene_model(resolve_checkpoint(model, "model"))
        if files.kind != "trained" and self.decoder == "small":
            raise ConfigError(
                f"--decoder small: {model} samples TRELLIS's latents, which another decoder reads. "
                "Expected --decoder microsoft/TRELLIS-image-large/ckpts/ss_dec_conv3d_16l8_fp16, "
                "or the path of that file without suffix."
            )
        digest = hashlib.sha256()
        for path in (files.config, *files.weights):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @contextmanager
    def networks(self, inputs: Inputs, context: WorkerContext) -> Iterator[Networks]:
        """Load the networks for a worker; torch keeps to its share of the cores."""
        device = torch_device(context.device)
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
        second = load_second_stage(self._second_stage(), device)
        with ExitStack() as stack:
            blender = None
            if second is not None and self.textured_preview:
                log = log_folder(context.folder) / f"blender-{context.name}.log"
                process = BlenderProcess(log, blender=context.blender, threads=context.threads)
                blender = stack.enter_context(process)
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
        """Sample all stages that are asked for; images are encoded once for both."""
        images = SceneImages.cut(networks.model, rgba, instance_map, num_instances)
        if networks.second is None:
            return Prediction(self._logits(networks, images, seed), None)
        tokens = image_tokens(networks.model, images)
        logits = self._logits(networks, images, seed, tokens)
        appearances = add_appearance(
            networks.second,
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


SECOND_STAGE: dict[str, type[torch.nn.Module]] = {
    "slat_flow": SLatFlowModel,
    "slat_mesh_decoder": SLatMeshDecoder,
    "slat_gaussian_decoder": SLatGaussianDecoder,
}


def load_second_stage(paths: dict[str, str], device: torch.device) -> SecondStage | None:
    """Load the networks of the second stage, by role; None for no paths.

    Raises:
        DatasetError: one is not to be had, or another kind of network.
    """
    if not paths:
        return None
    loaded: dict[str, Any] = {"slat_gaussian_decoder": None}
    for role, path in paths.items():
        network = load_model(path, device=device)
        if not isinstance(network, SECOND_STAGE[role]):
            raise DatasetError(
                f"--{role.replace('_', '-')} {path}: holds a {type(network).__name__}. Expected a "
                f"{SECOND_STAGE[role].__name__}; give its checkpoint."
            )
        loaded[role] = network
    return SecondStage(
        loaded["slat_flow"], loaded["slat_mesh_decoder"], loaded["slat_gaussian_decoder"]
    )


def read_scene_model(model: Dataset, device: torch.device) -> SceneModel:
    """Load a workspace's trained model."""
    path = model.folder.path / "model"
    if find_scene_model(str(path)).kind != "trained":
        raise StageError(
            f"{model.folder} holds another network than `datagen train` writes. Expected a "
            "SceneModel; use another --root."
        )
    return load_scene_model(path, device=device)


def write_prediction(
    folder: Path,
    predicted: Prediction,
    rgba: NDArray[np.uint8],
    instance_map: NDArray[np.integer[Any]],
    true_instances: NDArray[np.bool_] | None,
    row: Row,
    blender: BlenderProcess | None = None,
) -> list[int]:
    """Write one sampled scene: GLBs, occupancy, preview, and ``meta.json`` last.

    Returns the instances that came out empty, which have no node.
    """
    folder.mkdir(parents=True, exist_ok=True)
    occupied = predicted.logits > 0
    meta: Row = dict(row)
    if predicted.appearances is None:
        surfaces = {i: surface_from_logits(grid) for i, grid in enumerate(predicted.logits[1:])}
        empty = write_scene_glb(folder / "scene.glb", surfaces)
        write_instance_glbs(folder, surfaces)
    else:
        write_appearances(folder, predicted.appearances)
        empty = [i for i in range(len(occupied) - 1) if i not in predicted.appearances]
        meta["surfaces"] = surface_report(predicted.appearances)
    textured = _render(blender, folder) if predicted.appearances else None
    np.savez_compressed(folder / "occupancy.npz", scene=occupied[0], instances=occupied[1:])
    pictures = (rgba, occupied[1:], true_instances, instance_map, textured)
    write_preview(folder / "preview.png", *pictures)
    names = [instance_name(i) for i in range(len(occupied) - 1)]
    meta |= {"instances": names, "empty_instances": empty}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    return empty


def write_appearances(folder: Path, appearances: Mapping[int, Appearance]) -> None:
    """Write the textured scene and its instances, and their Gaussians, if any."""
    write_textured_glb(folder / "scene.glb", {i: one.mesh for i, one in appearances.items()})
    for index, one in appearances.items():
        name = instance_name(index)
        write_textured_glb(folder / f"{name}.glb", {index: one.mesh})
        if one.gaussians is not None:
            write_gaussian_ply(folder / f"{name}.ply", one.gaussians)


def surface_report(appearances: Mapping[int, Appearance]) -> dict[str, Row]:
    """Return the faces of each textured surface, before and after decimation, and if closed."""
    return {
        instance_name(index): {
            "faces": len(one.mesh.faces),
            "source_faces": one.mesh.num_source_faces,
            "watertight": one.mesh.watertight,
        }
        for index, one in appearances.items()
    }


def _render(blender: BlenderProcess | None, folder: Path) -> NDArray[np.uint8] | None:
    if blender is None:
        return None
    try:
        return render_textured(blender, folder / "scene.glb")
    except RowError as error:
        logger.warning(f"infer: {folder.name}: the preview lacks the textured scene ({error})")
        return None
