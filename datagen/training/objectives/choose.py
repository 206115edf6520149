"""The choice of an objective by the model's name; no other code depends on that name."""

from typing import Any

from datagen.training.config import TrainConfig
from datagen.training.objectives.objective import Objective
from datagen.training.objectives.structure.objective import StructureObjective
from datagen.training.objectives.structured_latents.objective import StructuredLatentObjective

OBJECTIVES: tuple[type[Objective[Any, Any]], ...] = (StructureObjective, StructuredLatentObjective)


def objective_of(config: TrainConfig) -> Objective[Any, Any]:
    """Return the objective of ``config.model``, with a network of that published size.

    Raises:
        ConfigError: ``config`` has a setting that this model does not support.
    """
    [kind] = [kind for kind in OBJECTIVES if config.model in kind.sizes]
    return kind(config, kind.sizes[config.model])
