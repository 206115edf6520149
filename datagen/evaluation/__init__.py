"""Scores of predicted scenes: Chamfer distance, F-score, overlaps, and a baseline to beat."""

from datagen.evaluation.align import Alignment, AlignOptions, align_clouds
from datagen.evaluation.constant import ConstantPrediction, fit_constant
from datagen.evaluation.metrics import box_iou, cd_l2_mean, cd_sq_sum, f_score, voxel_iou
from datagen.evaluation.multistart import MultistartOptions, multistart_icp
from datagen.evaluation.points import POINTS_PER_OBJECT, sample_surface
from datagen.evaluation.registration import IcpOptions, Registration, robust_icp
from datagen.evaluation.scene import (
    WHOLE_SCENE,
    SceneGeometry,
    SceneScores,
    ThingScores,
    score_scene,
)

__all__ = [
    "POINTS_PER_OBJECT",
    "WHOLE_SCENE",
    "AlignOptions",
    "Alignment",
    "ConstantPrediction",
    "IcpOptions",
    "MultistartOptions",
    "Registration",
    "SceneGeometry",
    "SceneScores",
    "ThingScores",
    "align_clouds",
    "box_iou",
    "cd_l2_mean",
    "cd_sq_sum",
    "f_score",
    "fit_constant",
    "multistart_icp",
    "robust_icp",
    "sample_surface",
    "score_scene",
    "voxel_iou",
]
