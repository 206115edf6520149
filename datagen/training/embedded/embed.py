"""Writes a trained model in half precision, as it is embedded in the package.

``python -m datagen.training.embedded.embed --model MODEL
--out datagen/models/weights/small_scene_model``
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from datagen.errors import ConfigError
from datagen.models import SceneModel, find_checkpoint, load_model, save_model
from datagen.models.weight_files import read_config

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Halve the precision of a trained model."""

    model: str
    """NAME of NAME.json and NAME.safetensors, as ``datagen train`` writes them."""

    out: Path
    """The same of what is written."""


def embed(config: Embed) -> int:
    """Write the model, float16; return the size of its weights in bytes.

    Raises:
        ConfigError: it knows views by heart, which are of no use to others.
        DatasetError: there is no such model.
    """
    model = load_model(config.model, device="cpu")
    if isinstance(model, SceneModel) and model.low_rank_mean is not None:
        raise ConfigError(
            f"{config.model}: was trained with a LowRankMean, which half of its weights are and "
            "which only knows the views at hand. Expected a model of `datagen train "
            "--no-low-rank-mean`."
        )
    args = read_config(find_checkpoint(config.model)[0])["args"]
    save_model(model.to(torch.float16), config.out, args)
    return find_checkpoint(config.out)[1].stat().st_size


if __name__ == "__main__":
    arguments = tyro.cli(Embed)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info(f"{arguments.out}.safetensors: {embed(arguments) / 1e6:.1f} MB")
