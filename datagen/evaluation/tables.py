"""The datasets of ``datagen evaluate``: the columns of scores."""

import pyarrow as pa

from datagen.shards.declared import SPLIT, VIEW
from datagen.shards.tables import Column, Table, column

TAUS = ("0_1", "0_05", "0_01", "0_001")
"""Thresholds of F-scores, as columns name them."""

_COLLIDING = (
    column(
        "num_colliding",
        pa.int32(),
        "Predicted objects that go into another one deeper than 0.5 % of the scene's extent; of "
        "an object 0 or 1; null where it was not computed.",
    ),
    column(
        "num_colliding_at",
        pa.list_(pa.int32()),
        "Of a scene: the same at 0, 0.1, 0.2, 0.5, 1, 2 and 5 %.",
    ),
)
_CD_SQ_SUM = "Chamfer distance: mean squared, both directions added."
_CD_L2_MEAN = "Chamfer distance: mean, both directions averaged."
_BOX_IOU = "Intersection over union of axis-aligned boxes."
_NUM_PREDICTED = "Predicted objects that have a surface."


def _score(name: str, meaning: str) -> Column:
    return column(name, pa.float64(), meaning)


def _at_taus(name: str, meaning: str, taus: tuple[str, ...] = TAUS[:3]) -> list[Column]:
    """Return a column a threshold; ``TAU`` stands for it in both texts."""
    pairs = [(tau, tau.replace("_", ".")) for tau in taus]
    return [_score(name.replace("TAU", tau), meaning.replace("TAU", word)) for tau, word in pairs]


SCORES = Table(
    folder="scores",
    verb="evaluate",
    row="an object's score (the scene's where placement_index is -1), by method",
    columns=(
        *VIEW,
        SPLIT,
        column("method", pa.string(), "Whose prediction."),
        column("placement_index", pa.int32(), "The object; -1 is the scene."),
        _score("cd_sq_sum", _CD_SQ_SUM),
        _score("cd_l2_mean", _CD_L2_MEAN),
        _score("cd_sq_sum_floor", "cd_sq_sum of the truth against another sample of itself."),
        *_at_taus("f_score_TAU", "F-score at TAU."),
        _score("voxel_iou", "Intersection over union of 64³ voxels."),
        _score("box_iou", _BOX_IOU),
        _score("aligned_cd_sq_sum", "cd_sq_sum after the scene is aligned to the truth."),
        _score("aligned_cd_l2_mean", "cd_l2_mean after alignment."),
        _score("aligned_cd_floor", "aligned_cd_sq_sum of the truth, sampled again."),
        *_at_taus("aligned_f_score_TAU", "F-score at TAU after alignment."),
        *_at_taus("aligned_f_score_TAU_floor", "F-score at TAU of the truth, sampled again."),
        _score("aligned_box_iou", "box_iou after alignment."),
        _score("aligned_voxel_iou", "Of an object: voxel IoU of the surfaces after alignment."),
        column("num_predicted", pa.int32(), _NUM_PREDICTED),
        *_COLLIDING,
    ),
)

_WITHIN = {
    "f_score": "Harmonic mean of precision and recall at {} of the space of the scores.",
    "precision": "Share of predicted points nearer to the truth than {} of that space.",
    "recall": "Share of true points nearer to the prediction than {} of that space.",
}

COMPARISON = Table(
    folder="comparison",
    verb="evaluate --pred NAME=PATH --gt TRUTH",
    row="a true instance of a scored scene (the scene where instance_index is -1)",
    key=("pair_index", "instance_index"),
    columns=(
        column("pair_index", pa.int64(), "Index of the predicted scene, over all methods."),
        column("method", pa.string(), "Name of the method."),
        column("format", pa.string(), "Format of the method's files."),
        column("scene_id", pa.string(), "The scene, by the name of its files."),
        column("instance_index", pa.int32(), "The true instance; -1 is the scene."),
        column("partner_index", pa.int32(), "Its predicted instance; null where there is none."),
        column("protocol", pa.string(), "Protocol whose definitions the scores follow."),
        column("align", pa.string(), "How the prediction was aligned to the truth."),
        column("matched_by", pa.string(), "How instances found their partners: order, or overlap."),
        column("chamfer", pa.string(), "Formula of cd."),
        column("points", pa.int32(), "Surface samples of an object, or of the scene."),
        column("num_true", pa.int32(), "True instances."),
        column("num_predicted", pa.int32(), _NUM_PREDICTED),
        column("num_missing", pa.int32(), "True instances without a partner."),
        column("num_superfluous", pa.int32(), "Unmatched predicted instances."),
        *_COLLIDING,
        _score("cd", "Chamfer distance by the protocol's formula; nan for a missing instance."),
        _score("cd_floor", "cd of the truth against another sample of itself."),
        _score("cd_sq_sum", _CD_SQ_SUM),
        _score("cd_l2_mean", _CD_L2_MEAN),
        *(
            _score(f"{name}_{tau}", meaning.format(tau.replace("_", ".")))
            for tau in TAUS
            for name, meaning in _WITHIN.items()
        ),
        *_at_taus("f_score_TAU_floor", "f_score_TAU of the truth, sampled again.", TAUS),
        _score("box_iou", _BOX_IOU),
        _score("voxel_iou", "Intersection over union of the surfaces' 64³ voxels."),
        _score(
            "self_overlap", "Mean voxel IoU of the predicted parts with each other: less is better."
        ),
        column(
            "transform",
            pa.list_(pa.float64()),
            "4×4, row by row: prediction to truth, in the space of the scores.",
        ),
        column("warnings", pa.list_(pa.string()), "What is unusual in the prediction or truth."),
    ),
)
