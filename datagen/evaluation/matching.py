"""Which predicted instance is which true one; missing and unmatched ones are counted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from datagen.core.frames import Floats
from datagen.core.meshes import Mesh
from datagen.errors import RowError
from datagen.evaluation.formulas import box_iou
from datagen.evaluation.points import used_vertices
from datagen.voxels import voxelize_surface

RESOLUTION = 64
"""Voxels along the longest side of everything together."""


@dataclass(frozen=True)
class Matching:
    """Pairs of true and predicted instances, and those without a partner."""

    partners: tuple[int | None, ...]
    """For each true instance its predicted one, or None."""

    unmatched: tuple[int, ...]
    """Unmatched predicted instances."""

    @property
    def missing(self) -> tuple[int, ...]:
        """True instances that nothing was predicted for."""
        return tuple(i for i, partner in enumerate(self.partners) if partner is None)


def match_by_order(num_predicted: int, num_true: int) -> Matching:
    """Match first to first: for methods whose instances come in the order of the masks."""
    partners = tuple(i if i < num_predicted else None for i in range(num_true))
    return Matching(partners, tuple(range(num_true, num_predicted)))


def match_by_name(predicted: Sequence[str], true: Sequence[str]) -> Matching:
    """Match equal names.

    Raises:
        RowError: a name occurs twice on one side.
    """
    for side, names in (("predicted", predicted), ("true", true)):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RowError(
                f"{side} instances have the name {twice[0]!r} more than once (of {len(names)}); "
                "matching by name needs each once. Match by overlap instead."
            )
    where = {name: index for index, name in enumerate(predicted)}
    unmatched = tuple(where[name] for name in predicted if name not in set(true))
    return Matching(tuple(where.get(name) for name in true), unmatched)


def match_by_overlap(predicted: Sequence[Mesh | None], true: Sequence[Mesh]) -> Matching:
    """Match by the assignment (Hungarian) of the largest summed overlap, in one common frame.

    The overlap of two instances is the mean of their box IoU and the voxel IoU of their surfaces.
    A pair without overlap stays unmatched.

    Args:
        predicted: vertices (V, 3) and faces (F, 3) of each instance; None without a surface.
        true: the same, in the same frame; every instance has a surface.
    """
    found = [index for index, mesh in enumerate(predicted) if mesh is not None and len(mesh[1])]
    partners: list[int | None] = [None] * len(true)
    overlaps = _overlaps([_present(predicted[index]) for index in found], true)
    for row, column in zip(*linear_sum_assignment(-overlaps), strict=True):
        if overlaps[row, column] > 0:
            partners[column] = found[row]
    matched = {partner for partner in partners if partner is not None}
    return Matching(tuple(partners), tuple(index for index in found if index not in matched))


def surface_voxels(meshes: Sequence[Mesh]) -> list[NDArray[np.bool_]]:
    """Return each mesh's surface voxels, (R, R, R) with R = RESOLUTION, in the box around all."""
    corners = np.concatenate([used_vertices(mesh) for mesh in meshes])
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = max(float(np.max(high - low)), float(np.finfo(float).tiny)) * (1 + 1e-6)
    return [
        voxelize_surface(
            (np.asarray(vertices, np.float64) - (low + high) / 2) / side,
            np.asarray(faces, np.int32),
            RESOLUTION,
        )
        for vertices, faces in meshes
    ]


def _present(mesh: Mesh | None) -> Mesh:
    assert mesh is not None
    return mesh


def _overlaps(predicted: Sequence[Mesh], true: Sequence[Mesh]) -> Floats:
    if not predicted or not true:
        return np.zeros((len(predicted), len(true)))
    grids = surface_voxels([*predicted, *true])
    overlaps = np.zeros((len(predicted), len(true)))
    for row, mesh in enumerate(predicted):
        for column, other in enumerate(true):
            first, second = grids[row], grids[len(predicted) + column]
            voxels = (first & second).sum() / max((first | second).sum(), 1)
            overlaps[row, column] = (
                voxels + box_iou(used_vertices(mesh), used_vertices(other))
            ) / 2
    return overlaps
