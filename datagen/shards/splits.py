"""The splits of scenes and assets, decided by a hash of each id."""

import hashlib
from collections.abc import Iterable


def validation_layouts(layout_ids: Iterable[int], val_fraction: float) -> set[int]:
    """Return the layouts held out for validation, about ``val_fraction`` of them.

    A hash of the id decides, so a scene stays in its split when scenes are added. If the fraction
    is above 0 and there are at least two scenes, at least one scene is held out.
    """
    ids = sorted(set(layout_ids))
    if val_fraction <= 0 or len(ids) < 2:
        return set()
    by_hash = {layout_id: _unit_hash(layout_id) for layout_id in ids}
    held_out = {layout_id for layout_id in ids if by_hash[layout_id] < val_fraction}
    return held_out or {min(ids, key=lambda layout_id: by_hash[layout_id])}


def _unit_hash(layout_id: int) -> float:
    digest = hashlib.sha256(f"split\0{layout_id}".encode()).digest()
    return int.from_bytes(digest[:8], "little") / 2**64


SPLIT_ENDS = {"train": 0.8, "val": 0.9, "test": 1.0}
"""Upper end of each split of the assets; an asset's hash is mapped to a number from 0 to 1."""


def asset_split(asset_id: str) -> str:
    """Return the split of an asset; it depends on its id alone, a hash of its content."""
    digest = hashlib.sha256(asset_id.encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return next(name for name, end in SPLIT_ENDS.items() if place < end)
