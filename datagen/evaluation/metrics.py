"""Every metric, declared once: what it is called, which way is better, and what computes it.

Columns of ``scores`` and ``comparison``, the tables of summaries, the means of a workspace's
scores, and the tables and charts of reports are made of these declarations. A further metric is
one more entry of ``METRICS``, with its function.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from datagen.evaluation.formulas import (
    Chamfer,
    box_iou,
    chamfer,
    f_score_at,
    hits,
    nearest_distances,
    self_overlap,
    voxel_iou,
)
from datagen.evaluation.points import Points

Reads = Literal["formula", "distances", "thresholds", "voxels", "boxes", "parts"]
"""What the function of a metric is given:

* ``distances``: forward (N,), of the predicted points to the true ones, and backward (M,);
* ``formula``: the same, and the protocol's formula of the Chamfer distance;
* ``thresholds``: the same as ``distances``, and a threshold;
* ``voxels``: predicted and true grid, bool (R, R, R);
* ``boxes``: predicted and true vertices, (V, 3) and (W, 3), whose boxes are meant;
* ``parts``: the meshes of all predicted objects.
"""

Given = dict[Reads, Sequence[Any] | None]
"""What there is to read of one object or scene; None where its prediction is missing."""

TAUS = (0.1, 0.05, 0.01, 0.001)
"""All thresholds that a column has, in the units of the space of the scores."""

VIEW_TAUS = TAUS[:3]
"""Those of ``scores``."""

HEADLINE_TAU = TAUS[0]
"""The one of summaries and charts."""

ALIGNED = "aligned_"
"""Prefix of the scores after the scene is aligned to the truth, in ``scores``."""

FLOOR = "_floor"
"""Suffix of the truth's score against another sample of itself: that of a perfect prediction."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One score of an object, or of a whole scene."""

    name: str
    """Its column; of a metric that reads ``thresholds`` the beginning of one column a threshold."""
    title: str
    """In the report of a workspace."""
    meaning: str
    """One sentence, for cards; ``{tau}`` stands for the threshold."""
    better: Literal["higher", "lower"]
    reads: Reads
    function: Callable[..., float]
    """From what it reads to the score."""
    unit: str = ""
    scene_title: str = ""
    """In the summary of methods, as papers print it, of whole scenes; "" leaves it out."""
    object_title: str = ""
    """The same, of objects."""
    percent: bool = False
    """Whether summaries print it times 100."""
    in_scores: bool = True
    """Whether ``scores`` has it too; ``comparison`` has every metric."""
    floor_of: tuple[Literal["view", "protocol"], ...] = ()
    """Whose floor is a column: of the scores in the frame of the view, of a protocol's."""
    aligned_in: tuple[Literal["means", "report"], ...] = ("means", "report")
    """Where a workspace's aligned scores are shown: the means of its manifest, its report."""

    @property
    def floor(self) -> str:
        """Column of its floor."""
        return self.name + FLOOR

    @property
    def missing(self) -> float:
        """The score of a missing prediction: 0, or nan where less is better without bound."""
        return 0.0 if self.better == "higher" else float("nan")

    def score(self, read: Sequence[Any] | None) -> float:
        """Return the score from what the metric reads; None is a missing prediction."""
        return self.missing if read is None else self.function(*read)

    def at(self, tau: float) -> "Metric":
        """Return the metric at a threshold; 0.1 is written 0_1 in its name."""
        return replace(
            self,
            name=f"{self.name}_{tau:g}".replace(".", "_"),
            title=f"{self.title} @ {tau:g}",
            meaning=self.meaning.format(tau=f"{tau:g}"),
            function=partial(self.function, tau=tau),
            scene_title=self.scene_title if tau == HEADLINE_TAU else "",
            object_title=self.object_title if tau == HEADLINE_TAU else "",
        )


CD = Metric(
    name="cd",
    title="CD",
    meaning="Chamfer distance by the protocol's formula; nan for a missing instance.",
    better="lower",
    reads="formula",
    function=chamfer,
    unit="units of the space, squared if the formula says so",
    scene_title="CD-S",
    object_title="CD-O",
    in_scores=False,
    floor_of=("protocol",),
)
CD_SQ_SUM = Metric(
    name="cd_sq_sum",
    title="CD (sq, sum)",
    meaning="Chamfer distance: mean squared, both directions added.",
    better="lower",
    reads="distances",
    function=partial(chamfer, formula="cd_sq_sum"),
    unit="squared units of the space",
    floor_of=("view",),
)
CD_L2_MEAN = Metric(
    name="cd_l2_mean",
    title="CD (L2, mean)",
    meaning="Chamfer distance: mean, both directions averaged.",
    better="lower",
    reads="distances",
    function=partial(chamfer, formula="cd_l2_mean"),
    unit="units of the space",
    aligned_in=("report",),
)
F_SCORE = Metric(
    name="f_score",
    title="F",
    meaning="F-score: harmonic mean of precision and recall at {tau} of the space of the scores.",
    better="higher",
    reads="thresholds",
    function=f_score_at,
    scene_title="F-S",
    object_title="F-O",
    percent=True,
    floor_of=("protocol",),
)
PRECISION = Metric(
    name="precision",
    title="precision",
    meaning="Share of predicted points nearer to the truth than {tau} of the space of the scores.",
    better="higher",
    reads="thresholds",
    function=lambda forward, backward, tau: hits(forward, tau),
    in_scores=False,
)
RECALL = Metric(
    name="recall",
    title="recall",
    meaning="Share of true points nearer to the prediction than {tau} of the space of the scores.",
    better="higher",
    reads="thresholds",
    function=lambda forward, backward, tau: hits(backward, tau),
    in_scores=False,
)
VOXEL_IOU = Metric(
    name="voxel_iou",
    title="voxel IoU",
    meaning="Intersection over union of 64³ voxels; of the surfaces' voxels where files are "
    "compared and after alignment.",
    better="higher",
    reads="voxels",
    function=voxel_iou,
    aligned_in=(),  # taken of objects alone
)
BOX_IOU = Metric(
    name="box_iou",
    title="box IoU",
    meaning="Intersection over union of axis-aligned boxes.",
    better="higher",
    reads="boxes",
    function=box_iou,
    scene_title="IoU-B",
    object_title="IoU-O",
)
SELF_OVERLAP = Metric(
    name="self_overlap",
    title="self-overlap",
    meaning="Mean voxel IoU of the predicted parts with each other: less is better.",
    better="lower",
    reads="parts",
    function=self_overlap,
    in_scores=False,
)

METRICS: tuple[Metric, ...] = (
    *(CD, CD_SQ_SUM, CD_L2_MEAN),
    *(F_SCORE, PRECISION, RECALL),
    *(VOXEL_IOU, BOX_IOU, SELF_OVERLAP),
)
HEADLINE = F_SCORE.at(HEADLINE_TAU)
"""The score that charts show, and that sorts the worst scenes."""


@dataclass(frozen=True)
class Rate:
    """A share of what collides, pooled over scenes; less is better, printed in per cent."""

    name: str
    title: str
    part: Callable[[int, int], tuple[float, float]]
    """From a scene's colliding objects and all its objects to what is added up, over what."""


COL_O = Rate("col_o", "Col-O", lambda colliding, objects: (colliding, objects))
COL_S = Rate("col_s", "Col-S", lambda colliding, objects: (colliding > 0, 1))
RATES = (COL_O, COL_S)


def metrics_at(taus: Sequence[float], *reads: Reads) -> list[Metric]:
    """Return the metrics that read these, in that order: each threshold's where there are some.

    Args:
        taus: thresholds; all metrics of one come before those of the next.
        reads: kinds of metrics; by default all metrics, in the order of ``METRICS``.
    """
    found: list[Metric] = []
    for kind in reads or dict.fromkeys(metric.reads for metric in METRICS):
        own = [metric for metric in METRICS if metric.reads == kind]
        found += [m.at(tau) for tau in taus for m in own] if kind == "thresholds" else own
    return found


def scores_of(metrics: Iterable[Metric], given: Given) -> dict[str, float]:
    """Return the scores by name; a metric that reads what is not given is left out."""
    return {m.name: m.score(given[m.reads]) for m in metrics if m.reads in given}


def floors_of(
    metrics: Iterable[Metric], given: Given, of: Literal["view", "protocol"]
) -> dict[str, float]:
    """Return the floors by column, of what the truth and another sample of it give to read."""
    known = [m for m in metrics if of in m.floor_of and m.reads in given]
    return {m.floor: m.score(given[m.reads]) for m in known}


def of_clouds(predicted: Points | None, true: Points, formula: Chamfer | None = None) -> Given:
    """Return what metrics of point clouds read, with every neighbour looked up once.

    Args:
        predicted: (N, 3), or None for a missing prediction.
        true: (M, 3), same frame.
        formula: of the Chamfer distance; None leaves the metrics of a protocol's formula out.

    Raises:
        RowError: a cloud is empty or not finite.
    """
    distances = None if predicted is None else nearest_distances(predicted, true)
    given: Given = {"distances": distances, "thresholds": distances}
    if formula is not None:
        given["formula"] = None if distances is None else (*distances, formula)
    return given
