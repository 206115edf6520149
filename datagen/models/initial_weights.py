"""Weights to start from: a trained model's, TRELLIS's flow model's, or I-Scene's."""

import json
import logging
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from datagen.errors import DatasetError
from datagen.models import SceneModel, find_checkpoint
from datagen.models.structured_latent_model import StructuredLatentModel
from datagen.models.torch_files import read_torch_weights

logger = logging.getLogger(__name__)

PACKAGE_FILE = "iscene_config.json"


def load_initial(model: SceneModel | StructuredLatentModel, name: str) -> bool:
    """Give a fresh model published or trained weights.

    TRELLIS's and I-Scene's are the flow model's alone (scene-context attention has no parameters):
    the image encoder keeps its fresh ones. So does ``LowRankMean`` where the weights have none.

    Args:
        model: of the same architecture.
        name: as ``initial_files`` takes it.

    Returns:
        Whether the normalisation of the latents came along.

    Raises:
        DatasetError: there are no such weights, or they are of another architecture.
    """
    path = initial_files(name)[0]
    tensors = read_weights(path)
    is_whole = "latent_std" in tensors
    part: nn.Module = model if is_whole else model.flow
    if is_whole and isinstance(model, SceneModel) and model.low_rank_mean is not None:
        fresh = model.low_rank_mean.state_dict(prefix="low_rank_mean.")
        tensors = fresh | tensors
    check_fits(part, tensors, path)
    part.load_state_dict(tensors)
    what = "a trained model" if is_whole else "a flow model; the image encoder starts afresh"
    logger.info(f"train: starts from {path}, {what}")
    return is_whole


def initial_files(name: str) -> tuple[Path, ...]:
    """Return the files that hold weights to start from; the first has the tensors.

    Args:
        name: NAME of NAME.json and NAME.safetensors (ours or TRELLIS's), a path or a hub id; a
            .pt file; or I-Scene's package, a folder with ``iscene_config.json``.

    Raises:
        DatasetError: there are none.
    """
    path = Path(name)
    if (path / PACKAGE_FILE).is_file():
        entries = json.loads((path / PACKAGE_FILE).read_text())
        return (path / str(entries.get("denoiser_checkpoint")),)
    if path.suffix in (".pt", ".pth"):
        return (path,)
    config, weights = find_checkpoint(name)
    return weights, config


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return a file's tensors by name, on the CPU."""
    if path.suffix != ".safetensors":
        return read_torch_weights(path)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise DatasetError(
            f"{path}: is not a whole safetensors file ({error}). Fetch the checkpoint again."
        ) from None
    return tensors


def check_fits(module: nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
    """Check that tensors are exactly a module's, by name and shape.

    Raises:
        DatasetError: they are not; the first that differ are named.
    """
    expected = module.state_dict()
    misshapen = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & tensors.keys()
        if tensors[key].shape != expected[key].shape
    ]
    problems = {
        "missing": expected.keys() - tensors.keys(),
        "unexpected": tensors.keys() - expected.keys(),
        "mis-shaped": misshapen,
    }
    found = [
        f"{len(names)} {kind} ({', '.join(sorted(names)[:3])})"
        for kind, names in problems.items()
        if names
    ]
    if found:
        raise DatasetError(
            f"--init {where}: holds weights of another shape than --model: {'; '.join(found)} of "
            f"{len(expected)} tensors. Expected those of the same network; TRELLIS's and I-Scene's "
            "fit --model iscene-L."
        )
