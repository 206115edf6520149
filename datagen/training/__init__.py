"""Training: samples, the flow-matching loss, and loops that resume."""

from datagen.training.flow_matching import FlowMatching
from datagen.training.samples import SceneSample, read_samples
from datagen.training.trainer import ISCENE_L, TrainConfig, train_flow

__all__ = ["ISCENE_L", "FlowMatching", "SceneSample", "TrainConfig", "read_samples", "train_flow"]
