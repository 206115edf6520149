"""Scores of predicted scenes: Chamfer distance, F-score, overlaps, and a baseline to beat."""

from datagen.evaluation.collision import (
    CollisionRates,
    SceneCollisions,
    collision_rates,
    scene_collisions,
)
from datagen.evaluation.constant import ConstantPrediction, fit_constant
from datagen.evaluation.formulas import box_iou, cd_l2_mean, cd_sq_sum, f_score, voxel_iou
from datagen.evaluation.matching import (
    Matching,
    match_by_name,
    match_by_order,
    match_by_overlap,
)
from datagen.evaluation.points import POINTS_PER_OBJECT, sample_surface
from datagen.evaluation.protocols import PROTOCOLS, Protocol, ProtocolScores, score_protocol
from datagen.evaluation.registration.align import Alignment, AlignOptions, align_clouds
from datagen.evaluation.registration.multistart import (
    MultistartOptions,
    multistart_icp,
    multistart_icp_batch,
)
from datagen.evaluation.registration.robust_icp import IcpOptions, Registration, robust_icp
from datagen.evaluation.scene import (
    WHOLE_SCENE,
    SceneGeometry,
    SceneScores,
    ThingScores,
    score_scene,
)

__all__ = [
    "POINTS_PER_OBJECT",
    "PROTOCOLS",
    "WHOLE_SCENE",
    "AlignOptions",
    "Alignment",
    "CollisionRates",
    "ConstantPrediction",
    "IcpOptions",
    "Matching",
    "MultistartOptions",
    "Protocol",
    "ProtocolScores",
    "Registration",
    "SceneCollisions",
    "SceneGeometry",
    "SceneScores",
    "ThingScores",
    "align_clouds",
    "box_iou",
    "cd_l2_mean",
    "cd_sq_sum",
    "collision_rates",
    "f_score",
    "fit_constant",
    "match_by_name",
    "match_by_order",
    "match_by_overlap",
    "multistart_icp",
    "multistart_icp_batch",
    "robust_icp",
    "sample_surface",
    "scene_collisions",
    "score_protocol",
    "score_scene",
    "voxel_iou",
]
