"""Objects as a source lists them, and the identity of their geometry."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How a model file is converted to metres, Z up. Every field changes the geometry."""

    rotation: tuple[float, ...] | None = None
    """(3, 3), row-major, applied to the file's own coordinates; None: no rotation."""

    up_axis: Literal["Y", "Z"] = "Y"
    """The axis of the file that points up after the rotation."""

    size_m: tuple[float, float, float] | None = None
    """Width, depth and height (x, y, z, z_up), metres, to which the bounding box is stretched;
    None keeps the file's size."""

    unit_m: float | None = 1.0
    """Metres per unit of the file; None (unknown unit) scales the longest side to 1 m. Ignored
    if size_m is given."""


@dataclass(frozen=True)
class Fault:
    """Why an object is set aside without being opened."""

    reason: str
    """One of datagen.assets.measure.REASONS."""
    detail: str


@dataclass(frozen=True, kw_only=True)
class SourceObject:
    """One object as its source lists it."""

    uid: str
    """Readable name, unique within the source."""

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
    """Return the sha256 over the names and bytes of an object's files and its import options.

    Args:
        files: name and bytes of the model file and of the files that it links, in any order.
        options: how the model is imported.
    """
    digest = hashlib.sha256(canonical_json(asdict(options)))
    for name, data in sorted(files):
        digest.update(f"\0{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def listing_fingerprint(objects: Iterable[SourceObject]) -> str:
    """Return the sha256 over all fields of the listed objects."""
    return hashlib.sha256(canonical_json([asdict(obj) for obj in objects])).hexdigest()


def canonical_json(value: object) -> bytes:
    """Return a JSON value as bytes for hashing: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
