"""Scene models from our own checkpoints, from TRELLIS's, and from I-Scene's package."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor

from datagen.errors import ConfigError, DatasetError
from datagen.models.checkpoints import build_described, load_strictly
from datagen.models.dinov2 import DINOV2_LARGE, DinoV2, dinov2_from_hub_format, load_dinov2
from datagen.models.scene_model import SceneModel
from datagen.models.weight_files import fetch_file, find_checkpoint, read_config, read_weights

PACKAGE_FILE = "iscene_config.json"
PACKAGE_KEYS = (
    "base_model_id",
    "config_file",
    "denoiser_checkpoint",
    "image_conditioner_checkpoint",
)
CONDITIONER_PREFIX = "base_img_conditioner."

FLOW_NAMES = ("SparseStructureFlowModel", "SparseStructureSceneContextFlowModel")

NOT_OF_THE_NETWORK = frozenset(
    {"pretrained_base", "learning_pattern", "exp_setting", "k_bias_scale", "use_checkpoint"}
    | {"num_head_channels", "use_fp32"}
)
"""Arguments of I-Scene's release about training, and those that follow from others."""

MUST_BE_OFF = ("type_embedding_type", "share_mod", "qk_rms_norm_cross")
"""Variants of the network that the papers leave out and this project does not have."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model on this disk."""

    kind: Literal["trained", "flow", "package"]
    """A SceneModel, TRELLIS's flow model alone, or I-Scene's package."""
    config: Path
    """The json file that describes it."""
    weights: tuple[Path, ...]
    """All other files that decide what the model computes."""


def find_scene_model(path_or_hub_id: str) -> ModelFiles:
    """Return a scene model's files on this disk, fetched from the hub if needed.

    Args:
        path_or_hub_id: the common path without suffix of NAME.json and NAME.safetensors, or their
            hub id OWNER/REPOSITORY/PATH; or I-Scene's package, a folder or OWNER/REPOSITORY.

    Raises:
        DatasetError: there is no such model, or it is of another kind.
    """
    is_folder_or_repository = Path(path_or_hub_id).is_dir() or path_or_hub_id.count("/") == 1
    if is_folder_or_repository and not Path(f"{path_or_hub_id}.json").is_file():
        return _find_package(path_or_hub_id)
    config, weights = find_checkpoint(path_or_hub_id)
    name = read_config(config).get("name")
    if name != SceneModel.__name__ and name not in FLOW_NAMES:
        raise DatasetError(
            f"--model {path_or_hub_id}: holds a {name}, expected a SceneModel, a flow model "
            f"({' or '.join(FLOW_NAMES)}) or a folder with {PACKAGE_FILE}."
        )
    return ModelFiles("trained" if name == SceneModel.__name__ else "flow", config, (weights,))


def load_scene_model(
    path_or_hub_id: str | Path,
    *,
    device: str | torch.device,
    image_encoder: str | None = None,
) -> SceneModel:
    """Return a scene model with its image encoder, in evaluation mode.

    TRELLIS's own flow weights make a scene model too: scene-context attention has no parameters.

    Args:
        path_or_hub_id: as ``find_scene_model`` takes it.
        device: where the networks go; on a CPU in float32.
        image_encoder: as ``load_dinov2`` takes it. None: the one that the model was trained with.

    Raises:
        DatasetError: a file is missing, or of another architecture.
        ConfigError: an encoder is given to a model that has its own.
    """
    files = find_scene_model(str(path_or_hub_id))
    if files.kind == "package":
        model, encoder = _read_package(files, image_encoder, device)
    else:
        model = _read_pair(files)
        if model.image_encoder is not None:
            if image_encoder is not None:
                raise ConfigError(
                    f"--image-encoder {image_encoder}: {path_or_hub_id} has an encoder of its own, "
                    "trained with it. Expected no other; leave the flag out."
                )
            return _placed(model, device)
        encoder = load_dinov2(image_encoder or model.image_encoder_name or DINOV2_LARGE, device)
    expected = model.flow.blocks[0].cross_attn.to_kv.in_features  # type: ignore[union-attr]
    if encoder.channels != expected:
        raise DatasetError(
            f"--image-encoder {image_encoder or model.image_encoder_name}: its tokens have "
            f"{encoder.channels} channels, and {path_or_hub_id} takes {expected}. Expected the "
            f"encoder that the model was trained with; {DINOV2_LARGE} has 1024."
        )
    model.image_encoder = encoder
    return _placed(model, device)


def _placed(model: SceneModel, device: str | torch.device) -> SceneModel:
    # Half precision is slow on a CPU.
    dtype = torch.float32 if torch.device(device).type == "cpu" else None
    return model.to(device=device, dtype=dtype).eval()


def _read_pair(files: ModelFiles) -> SceneModel:
    config = read_config(files.config)
    [weights] = files.weights
    if files.kind == "trained":
        model = build_described(config, files.config)
        load_strictly(model, read_weights(weights), weights)
    else:
        model = _scene_model_of(
            config.get("args"), read_weights(weights), files.config, weights, local_slot=False
        )
    assert isinstance(model, SceneModel), model
    return model


def _scene_model_of(
    flow: Any, tensors: dict[str, Tensor], config: Path, weights: Path, *, local_slot: bool
) -> SceneModel:
    """Return the scene model of a flow model's arguments and tensors.

    Its latents are those of the encoder: mean 0 and standard deviation 1 change nothing.
    """
    args = {"flow": flow, "image_encoder": DINOV2_LARGE, "local_slot": local_slot}
    if not isinstance(flow, dict):
        raise DatasetError(
            f"{config}: has no args of the network. Expected a JSON object; fetch the checkpoint "
            "again."
        )
    model = build_described({"name": SceneModel.__name__, "args": args}, config)
    assert isinstance(model, SceneModel), model
    shape = model.latent_mean.shape
    unchanged = {"latent_mean": torch.zeros(shape), "latent_std": torch.ones(shape)}
    named = {f"flow.{key}": value for key, value in tensors.items()}
    load_strictly(model, named | unchanged, weights)
    return model


def _find_package(path_or_hub_id: str) -> ModelFiles:
    config = _package_file(path_or_hub_id, PACKAGE_FILE)
    entries = read_config(config)
    missing = [key for key in PACKAGE_KEYS if not isinstance(entries.get(key), str)]
    if missing:
        raise DatasetError(
            f"{config}: has no {', '.join(missing)}. Expected the keys {', '.join(PACKAGE_KEYS)}, "
            "as I-Scene's package has them; fetch it again."
        )
    weights = tuple(_package_file(path_or_hub_id, entries[key]) for key in PACKAGE_KEYS[1:])
    return ModelFiles("package", config, weights)


def _package_file(path_or_hub_id: str, name: str) -> Path:
    folder = Path(path_or_hub_id)
    if (folder / name).is_file():
        return folder / name
    if folder.is_dir():
        raise DatasetError(
            f"{folder}: {name} is not there. Expected I-Scene's package ({PACKAGE_FILE} and the "
            "files it names), or NAME.json beside NAME.safetensors, given without suffix."
        )
    return fetch_file(path_or_hub_id, name)


def _read_package(
    files: ModelFiles, image_encoder: str | None, device: str | torch.device
) -> tuple[SceneModel, DinoV2]:
    settings_path, denoiser_path, conditioner_path = files.weights
    settings = _read_settings(settings_path)
    denoiser = dict(_entry(settings, "models.denoiser.args", settings_path))
    exp_setting = _entry(settings, "dataset.args.exp_setting", settings_path)
    if exp_setting not in ("global", "global local"):
        raise DatasetError(
            f"{settings_path}: exp_setting is {exp_setting!r}. Expected 'global' (instance and "
            "scene) or 'global local' (instance, scene, and the instance in its own frame)."
        )
    on = [name for name in MUST_BE_OFF if denoiser.pop(name, None)]
    if on:
        raise DatasetError(
            f"{settings_path}: switches {', '.join(on)} on, a variant of the network that is not "
            "supported. Expected it absent or off."
        )
    flow = {key: value for key, value in denoiser.items() if key not in NOT_OF_THE_NETWORK}
    model = _scene_model_of(
        flow,
        read_weights(denoiser_path),
        settings_path,
        denoiser_path,
        local_slot=exp_setting == "global local",
    )
    if image_encoder is not None:
        return model, load_dinov2(image_encoder, device)
    tensors = {
        key.removeprefix(CONDITIONER_PREFIX): value
        for key, value in read_weights(conditioner_path).items()
    }
    return model, dinov2_from_hub_format(tensors, str(conditioner_path), device)


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of an OmegaConf file: YAML in which ${a.b} stands for another entry."""
    try:
        settings = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{path}: is not YAML ({reason}). Fetch the package again.") from None
    if not isinstance(settings, dict):
        raise DatasetError(f"{path}: holds no settings. Fetch the package again.")
    return settings


_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def _entry(settings: dict[str, Any], dotted: str, where: Path) -> Any:
    """Return an entry by its dotted name, with the references in it replaced."""
    found: Any = settings
    for key in dotted.split("."):
        if not isinstance(found, dict) or key not in found:
            raise DatasetError(f"{where}: has no entry {dotted}. Expected I-Scene's settings.")
        found = found[key]
    return _resolved(found, settings, where)


def _resolved(value: Any, settings: dict[str, Any], where: Path) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(item, settings, where) for key, item in value.items()}
    if isinstance(value, str) and (reference := _REFERENCE.fullmatch(value)):
        return _entry(settings, reference[1], where)
    return value
