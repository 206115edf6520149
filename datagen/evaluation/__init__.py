"""Scores of predicted scenes: Chamfer distance, F-score, overlaps, and a baseline to beat."""

from datagen.evaluation.constant import ConstantPrediction, fit_constant
from datagen.evaluation.metrics import box_iou, cd_l2_mean, cd_sq_sum, f_score, voxel_iou
from datagen.evaluation.points import POINTS_PER_OBJECT, sample_surface
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
    "ConstantPrediction",
    "SceneGeometry",
    "SceneScores",
    "ThingScores",
    "box_iou",
    "cd_l2_mean",
    "cd_sq_sum",
    "f_score",
    "fit_constant",
    "sample_surface",
    "score_scene",
    "voxel_iou",
]
