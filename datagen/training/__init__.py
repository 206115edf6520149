"""Training: the loader of samples, the flow-matching loss, and loops that resume."""

from datagen.training.config import ISCENE_L, FlowMatching, TrainConfig
from datagen.training.data.loader import SceneLoader, SceneStream, StreamConfig
from datagen.training.data.sources import SceneSource, open_source
from datagen.training.objectives.structure_samples import SceneSample
from datagen.training.trainer import train_flow

__all__ = [
    "ISCENE_L",
    "FlowMatching",
    "SceneLoader",
    "SceneSample",
    "SceneSource",
    "SceneStream",
    "StreamConfig",
    "TrainConfig",
    "open_source",
    "train_flow",
]
