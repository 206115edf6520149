"""Training: the loader of samples, the objectives, and a training loop that can resume."""

from datagen.training.config import ISCENE_L, FlowMatching, TrainConfig
from datagen.training.data.loader import SceneLoader, SceneStream, StreamConfig
from datagen.training.objectives.choose import objective_of
from datagen.training.objectives.structure.samples import SceneSample, decode_sample
from datagen.training.objectives.structure.source import SceneSource
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
    "decode_sample",
    "objective_of",
    "train_flow",
]
