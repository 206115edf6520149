"""``datagen layouts --verify``: checks every layout against the meshes of its assets."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import shapely

from datagen.errors import DatasetError, RowError, StageError
from datagen.shards import Dataset
from datagen.shards.scenes import SceneReader
from datagen.verify.proof import LayoutProof, Solid, Violation

logger = logging.getLogger(__name__)

VERIFICATION = "verification.json"
EXHAUSTIVE_EVERY = 100
"""In every N-th layout all pairs are checked triangle by triangle. This also tests the short
proofs."""

CACHED_SOLIDS = 1024


@dataclass
class LayoutVerification:
    """The result of checking layouts: what was checked, and every violation."""

    layouts: int = 0
    placements: int = 0
    stacked: int = 0
    """Placements that stand on another placement."""
    pairs: int = 0
    """Pairs of placements of the same layout."""
    mesh_pairs: int = 0
    """Pairs checked triangle by triangle; a short proof covers the others."""
    exhaustive_layouts: int = 0
    """Layouts in which all pairs were checked triangle by triangle."""
    violations: list[Violation] = field(default_factory=list)

    def as_json(self, fingerprint: str) -> dict[str, Any]:
        """Return the content of VERIFICATION, for the layouts of a fingerprint."""
        counts = Counter(violation.rule for violation in self.violations)
        return {**asdict(self), "violations_by_rule": counts, "layouts_fingerprint": fingerprint}


def verify_layouts(
    assets: Dataset, layouts: Dataset, *, exhaustive_every: int = EXHAUSTIVE_EVERY
) -> LayoutVerification:
    """Check every layout: penetration, footprints, gaps below stacked objects, spacing of disks.

    Args:
        assets: the placed assets.
        layouts: sampled or imported layouts.
        exhaustive_every: N, in every N-th layout all pairs are checked triangle by triangle.

    Raises:
        DatasetError: a placed asset is missing, or its geometry is missing or damaged.
    """
    proof = LayoutProof(read_solids(assets))
    result = LayoutVerification()
    for number, layout in enumerate(layouts):
        exhaustive = number % exhaustive_every == 0
        result.violations += proof.check(layout, exhaustive=exhaustive)
        result.layouts += 1
        result.placements += len(layout["placements"])
        result.exhaustive_layouts += exhaustive
    result.pairs, result.mesh_pairs = proof.num_pairs, proof.num_mesh_pairs
    result.stacked = proof.num_stacked
    return result


def verify_and_record(assets: Dataset, layouts: Dataset) -> LayoutVerification:
    """Check every layout and write VERIFICATION beside the manifest.

    Raises:
        StageError: a layout violates a rule; the message names the first violations.
        DatasetError: a placed asset is missing, or its geometry is missing or damaged.
    """
    result = verify_layouts(assets, layouts)
    record = result.as_json(layouts.fingerprint)
    layouts.folder.write_bytes(VERIFICATION, json.dumps(record, indent=1).encode())
    bad = list(dict.fromkeys(violation.layout_id for violation in result.violations))
    if bad:
        first = "; ".join(str(violation) for violation in result.violations[:3])
        raise StageError(
            f"{layouts.folder}: {len(bad)} of {result.layouts} layouts have "
            f"{len(result.violations)} violations ({first}). Expected none; see {VERIFICATION} "
            "there for all of them, and report them together with the assets."
        )
    logger.info(
        f"layouts: verified {result.layouts} layouts, {result.stacked} stacked objects, "
        f"{result.pairs} pairs ({result.mesh_pairs} mesh against mesh): 0 violations"
    )
    return result


def read_solids(assets: Dataset) -> Callable[[str], Solid]:
    """Return a function from ``asset_id`` to its solid; recent solids are cached.

    The function raises a DatasetError if the asset is missing or has no usable geometry.
    """
    reader = SceneReader(assets)
    supports = {row["asset_id"]: row["support"] for row in assets.rows(["asset_id", "support"])}

    @lru_cache(maxsize=CACHED_SOLIDS)
    def solid_of(asset_id: str) -> Solid:
        try:
            vertices, faces = reader.mesh(asset_id)
        except RowError as error:
            raise DatasetError(f"layouts --verify: {error}") from error
        vertices, support = vertices.astype(np.float64), supports[asset_id]
        if support is None:
            return Solid(vertices, faces)
        return Solid(vertices, faces, support["height_m"], shapely.from_wkb(support["polygon_wkb"]))

    return solid_of
