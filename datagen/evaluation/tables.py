"""The datasets of ``datagen evaluate``: their columns, those of the metrics made of METRICS."""

from collections.abc import Iterable
from typing import Literal

import pyarrow as pa

from datagen.evaluation.metrics import ALIGNED, TAUS, VIEW_TAUS, Metric, Reads, metrics_at
from datagen.shards.declared import SPLIT, VIEW
from datagen.shards.tables import Column, Table, column

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


def _scores(metrics: Iterable[Metric]) -> list[Column]:
    return [column(m.name, pa.float64(), m.meaning, unit=m.unit) for m in metrics]


def _floors(metrics: Iterable[Metric], of: Literal["view", "protocol"]) -> list[Column]:
    return [
        column(m.floor, pa.float64(), f"{m.name} of the truth, sampled again.", unit=m.unit)
        for m in metrics
        if of in m.floor_of
    ]


def _view(*reads: Reads) -> list[Column]:
    """Return columns of ``scores`` in the frame of the view: scores, then their floors."""
    metrics = metrics_at(VIEW_TAUS, *reads)
    return [*_scores(m for m in metrics if m.in_scores), *_floors(metrics, "view")]


def _aligned(*reads: Reads) -> list[Column]:
    """Return columns of ``scores`` after alignment: scores, then the floors of the protocol."""
    metrics = metrics_at(VIEW_TAUS, *reads)
    own = [*_scores(m for m in metrics if m.in_scores), *_floors(metrics, "protocol")]
    return [
        column(ALIGNED + c.name, c.field.type, f"{c.name} after alignment.", unit=c.unit)
        for c in own
    ]


def _protocol(*reads: Reads) -> list[Column]:
    """Return columns of ``comparison``: scores, then their floors."""
    metrics = metrics_at(TAUS, *reads)
    return [*_scores(metrics), *_floors(metrics, "protocol")]


SCORES = Table(
    folder="scores",
    verb="evaluate",
    row="an object's score (the scene's where placement_index is -1), by method",
    columns=(
        *VIEW,
        SPLIT,
        column("method", pa.string(), "Whose prediction."),
        column("placement_index", pa.int32(), "The object; -1 is the scene."),
        *_view("distances"),
        *_view("thresholds"),
        *_view("voxels"),
        *_view("boxes"),
        *_aligned("formula", "distances"),
        *_aligned("thresholds"),
        *_aligned("boxes"),
        *_aligned("voxels"),
        column("num_predicted", pa.int32(), "Predicted objects that have a surface."),
        *_COLLIDING,
    ),
)

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
        column("points", pa.int32(), "Surface samples: of an object or the scene, by protocol."),
        column("num_true", pa.int32(), "True instances."),
        column("num_predicted", pa.int32(), "Predicted instances that have a surface."),
        column("num_missing", pa.int32(), "True instances without a partner."),
        column("num_superfluous", pa.int32(), "Unmatched predicted instances."),
        *_COLLIDING,
        *_protocol("formula"),
        *_protocol("distances"),
        *_protocol("thresholds"),
        *_protocol("boxes"),
        *_protocol("voxels"),
        *_protocol("parts"),
        column(
            "transform",
            pa.list_(pa.float64()),
            "4×4, row by row: prediction to truth, in the space of the scores.",
        ),
        column("warnings", pa.list_(pa.string()), "What is unusual in the prediction or truth."),
    ),
)
