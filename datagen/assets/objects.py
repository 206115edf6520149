"""What a source says about one object, and the identity of its geometry."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How a model file becomes metres, Z up. Every field shapes the geometry."""

    rotation: tuple[float, ...] | None = None
    """(3, 3) row-major, applied to the file's own coordinates; None turns nothing."""

    up_axis: Literal["Y", "Z"] = "Y"
    """Which axis of the file, after the rotation, points up."""

    size_m: tuple[float, float, float] | None = None
    """z_up width, depth and height that the box is stretched to; None keeps the file's size."""

    unit_m: float | None = 1.0
    """Metres per unit of the file; None, an unknown unit, scales the longest side to 1 m.
    Not used when size_m is given."""


@dataclass(frozen=True)
class Fault:
    """Why a source lists an object that cannot be used: it is set aside without being opened."""

    reason: str
    """One of datagen.assets.measure.REASONS."""
    detail: str


@dataclass(frozen=True, kw_only=True)
class SourceObject:
    """One object as its source lists it."""

    uid: str
    """Unique within the source, readable."""

    name: str
    category: str
    license: str
    """SPDX identifier."""

    author: str
    asset_id: str
    options: ImportOptions = ImportOptions()
    fault: Fault | None = None


@dataclass(frozen=True)
class FetchedModel:
    """A model file on this machine, ready to import."""

    path: Path
    options: ImportOptions


def file_asset_id(files: Iterable[tuple[str, bytes]], options: ImportOptions) -> str:
    """Return the sha256 over named files' bytes and the options that shape their geometry.

    The order of the files does not matter. ``files`` holds one model and what belongs to it.
    """
    digest = hashlib.sha256(canonical_json(asdict(options)))
    for name, data in sorted(files):
        digest.update(f"\0{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def listing_fingerprint(objects: Iterable[SourceObject]) -> str:
    """Return a sha256 that changes when any listed object, or what is said of it, changes."""
    return hashlib.sha256(canonical_json([asdict(obj) for obj in objects])).hexdigest()


def canonical_json(value: object) -> bytes:
    """Return the one spelling of a JSON value that hashes are taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
