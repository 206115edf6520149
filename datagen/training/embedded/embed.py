"""Writes a trained model in half precision, for the weights that the package contains.

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
    """Write a trained model in half precision."""

    model: str
    """The trained model: NAME of NAME.json and NAME.safetensors, as ``datagen train`` writes."""

    out: Path
    """The model to write: NAME of NAME.json and NAME.safetensors."""


def embed(config: Embed) -> int:
    """Write the model in float16; return the size of its weights, bytes.

    Raises:
        ConfigError: the model has a ``LowRankMean``, which only memorises its training views.
        DatasetError: there is no such model.
    """
    model = load_model(config.model, device="cpu")
    if isinstance(model, SceneModel) and model.low_rank_mean is not None:
        raise ConfigError(
            f"{config.model}: was trained with a LowRankMean. It holds half of the weights and is "
            "of use for the training views alone. Expected a model without it; train one with "
            "`datagen train --no-low-rank-mean`."
        )
    args = read_config(find_checkpoint(config.model)[0])["args"]
    save_model(model.to(torch.float16), config.out, args)
    return find_checkpoint(config.out)[1].stat().st_size


if __name__ == "__main__":
    arguments = tyro.cli(Embed)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info(f"{arguments.out}.safetensors: {embed(arguments) / 1e6:.1f} MB")
