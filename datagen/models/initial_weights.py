"""Weights to start training from: a trained model's, TRELLIS's flow model's, or I-Scene's."""

import logging
from pathlib import Path

from torch import nn

from datagen.errors import DatasetError
from datagen.models.published import PACKAGE_FILE
from datagen.models.scene_model import SceneModel
from datagen.models.structured_latent_model import StructuredLatentModel
from datagen.models.weight_files import find_checkpoint, find_misfits, read_config, read_weights

logger = logging.getLogger(__name__)


def load_initial(model: SceneModel | StructuredLatentModel, name: str) -> bool:
    """Give a fresh model published or trained weights; return whether normalisation was included.

    TRELLIS's and I-Scene's files hold the flow model's weights alone (scene-context attention has
    no parameters); the image encoder keeps its fresh ones. So does ``LowRankMean`` where the
    weights have none.

    Args:
        model: of the same architecture.
        name: as ``initial_files`` takes it.

    Returns:
        True if the weights bring the mean and standard deviation of the latents along.

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
    expected = part.state_dict()
    if misfits := find_misfits(expected, tensors):
        raise DatasetError(
            f"--init {path}: holds weights of another shape than --model: {misfits} of "
            f"{len(expected)} tensors. Expected those of the same network; TRELLIS's and I-Scene's "
            "fit --model iscene-L."
        )
    part.load_state_dict(tensors)
    what = "a trained model" if is_whole else "a flow model; the image encoder is initialised"
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
        entries = read_config(path / PACKAGE_FILE)
        return (path / str(entries.get("denoiser_checkpoint")),)
    if path.suffix in (".pt", ".pth"):
        return (path,)
    config, weights = find_checkpoint(name)
    return weights, config
