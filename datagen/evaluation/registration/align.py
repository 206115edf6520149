"""Align a predicted scene's cloud to the true one: the two spaces, and the better of both.

Space "range" is the method's own: what it declares as its lowest and highest coordinate becomes −1
and 1, so that relative size and place are as the method meant them. In space "box" each cloud's own
box is re-centred and scaled to [−1, 1]. One transform is chosen, by the scene's squared Chamfer
distance in the truth's range, and every metric is taken after it (not the best of each metric).
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from datagen.core.frames import Floats, transform_points
from datagen.errors import ConfigError
from datagen.evaluation.formulas import cd_sq_sum
from datagen.evaluation.points import Points
from datagen.evaluation.registration.multistart import MultistartOptions, multistart_icp
from datagen.evaluation.registration.robust_icp import IcpOptions, Registration, robust_icp
from datagen.evaluation.registration.similarity import UpAxis, own_box_to_unit, range_to_unit

Align = Literal["robust", "multistart", "none"]
Space = Literal["range", "box", "pooled", "none"]
CANONICAL_RANGE = (-0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class AlignOptions:
    """How a prediction is aligned to the truth."""

    align: Align = "robust"
    up_axis: UpAxis = "z"
    with_scale: bool = True
    """Whether one factor of size is free."""
    source_range: tuple[float, float] = CANONICAL_RANGE
    """Lowest and highest coordinate that the method declares."""
    target_range: tuple[float, float] = CANONICAL_RANGE
    second_space: Literal["isotropic", "per_axis"] = "isotropic"
    """How space "box" scales. Open in the text; "per_axis" hides wrong proportions, since the
    transform then stretches."""
    icp: IcpOptions = field(default_factory=IcpOptions)
    multistart: MultistartOptions = field(default_factory=MultistartOptions)

    def __post_init__(self) -> None:
        if self.align not in ("robust", "multistart", "none"):
            raise ConfigError(
                f"align is {self.align!r}; expected 'robust', 'multistart' or 'none'."
            )
        for name, (low, high) in (("source", self.source_range), ("target", self.target_range)):
            if not low < high:
                raise ConfigError(
                    f"{name}_range is {(low, high)}; the lowest coordinate must come first."
                )


@dataclass(frozen=True)
class Alignment:
    """The one transform that all metrics of a scene are taken after."""

    transform: Floats
    """(4, 4), from the prediction's coordinates to the truth's."""

    space: Space
    """The space it was found in; "pooled" for multistart, which searches both at once."""

    registration: Registration | None
    """As found in that space; None if ``space`` is "none"."""

    cd_sq_sum: float
    """Of the clouds after it, in the truth's range made [−1, 1]."""


def align_clouds(source: Points, target: Points, options: AlignOptions | None = None) -> Alignment:
    """Return the transform that aligns a cloud (N, 3) to another (M, 3), and its Chamfer distance.

    Args:
        source: (N, 3), the cloud that is moved.
        target: (M, 3), the fixed cloud.
        options: method and settings; None: the defaults.

    Raises:
        RowError: a cloud has fewer than 3 points, no extent, or numbers that are not finite.
        StageError: Open3D cannot be imported.
    """
    options = options or AlignOptions()
    ranges = range_to_unit(*options.source_range), range_to_unit(*options.target_range)
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if options.align == "none":
        return _alignment(source, target, ranges, "none", None)
    if options.align == "multistart":
        registration = multistart_icp(
            transform_points(ranges[0], source),
            transform_points(ranges[1], target),
            up_axis=options.up_axis,
            with_scale=options.with_scale,
            options=options.multistart,
        )
        return _alignment(source, target, ranges, "pooled", registration, ranges[1])
    per_axis = options.second_space == "per_axis"
    boxes = own_box_to_unit(source, per_axis=per_axis), own_box_to_unit(target, per_axis=per_axis)
    spaces: tuple[tuple[Space, tuple[Floats, Floats]], ...] = (("range", ranges), ("box", boxes))
    found = []
    for space, normalisers in spaces:
        registration = robust_icp(
            transform_points(normalisers[0], source),
            transform_points(normalisers[1], target),
            up_axis=options.up_axis,
            with_scale=options.with_scale,
            options=options.icp,
        )
        found.append(_alignment(source, target, normalisers, space, registration, ranges[1]))
    return min(found, key=lambda alignment: alignment.cd_sq_sum)


def _alignment(
    source: Floats,
    target: Floats,
    normalisers: tuple[Floats, Floats],
    space: Space,
    registration: Registration | None,
    scored_in: Floats | None = None,
) -> Alignment:
    between = np.eye(4) if registration is None else registration.transform
    transform = np.linalg.inv(normalisers[1]) @ between @ normalisers[0]
    scored_in = normalisers[1] if scored_in is None else scored_in
    distance = cd_sq_sum(
        transform_points(scored_in @ transform, source), transform_points(scored_in, target)
    )
    return Alignment(transform, space, registration, distance)
