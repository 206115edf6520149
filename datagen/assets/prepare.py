"""Preparing one object: from its source to a row of the assets dataset and its two files."""

import logging
import re
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from datagen.assets.formats import FORMATS
from datagen.assets.measure import asset_row, geometry_path, measure, prepared_path
from datagen.assets.objects import SourceObject
from datagen.assets.source import AssetSource
from datagen.errors import RowError
from datagen.shards import Row

logger = logging.getLogger(__name__)

_TIMEOUT_S = 300.0
"""The slowest of 820 real objects took a few seconds; after this time Blender is stuck."""


class Blender(Protocol):
    """A Blender that runs jobs, such as datagen.blender.BlenderProcess."""

    def call(self, op: str, *, timeout_s: float, **fields: Any) -> dict[str, Any]:
        """Run one job and return its answer; RowError if Blender crashes on it."""

    def close(self) -> None:
        """End Blender; the next call starts a fresh one."""


DEFAULT_MAX_FACES = 200_000
"""Twice what rays and voxels need at 512 pixels; scanned objects have millions."""


def prepare_asset(
    source: AssetSource,
    obj: SourceObject,
    blender: Blender,
    assets_folder: Path,
    *,
    max_faces: int = DEFAULT_MAX_FACES,
) -> Row:
    """Return the row of one object (shards.declared.ASSETS) and write its two files.

    An unusable object becomes a quarantined row without files.

    Args:
        source: the object's source.
        obj: one of its objects.
        blender: runs blender_scripts/prepare.py.
        assets_folder: receives ``geometry/<asset_id>.npz`` and ``prepared/<asset_id>.blend``.
        max_faces: an object with more triangles is decimated to about this number.
    """
    geometry = (assets_folder / geometry_path(obj.asset_id)).absolute()
    prepared = (assets_folder / prepared_path(obj.asset_id)).absolute()
    geometry.parent.mkdir(parents=True, exist_ok=True)
    prepared.parent.mkdir(parents=True, exist_ok=True)

    job = {"geometry_path": str(geometry), "blend_path": str(prepared), "max_faces": max_faces}
    report = run_blender(source, obj, blender, job)
    measures = measure(geometry) if report["reason"] is None else {"reason": None}
    row = asset_row(source.name, obj, report, measures)
    if row["status"] != "ok":
        detail = headline(report.get("detail") or "")
        logger.warning(f"assets: {obj.uid} is quarantined: {row['reason']}{detail}")
        geometry.unlink(missing_ok=True)
        prepared.unlink(missing_ok=True)
    elif row["num_source_faces"] > max_faces:
        logger.info(
            f"assets: {obj.uid} has {row['num_source_faces']} faces, decimated to "
            f"{row['num_faces']} (--max-faces {max_faces})"
        )
    for texture in report.get("textures_missing", ()):
        logger.info(f"assets: {obj.uid} lacks its texture {texture}; it gets a plain colour")
    return row


def headline(detail: str) -> str:
    """Return the most informative line of an error in brackets; "" if there is none."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    # A traceback has its error near the end; Blender appends the place in its own code.
    errors = [line for line in lines if re.match(r"[A-Z]\w*(Error|Exception)\b", line)]
    chosen = errors[-1:] if "Traceback" in detail else lines[:1]
    return f" ({(chosen or lines)[0]})" if lines else ""


def run_blender(
    source: AssetSource, obj: SourceObject, blender: Blender, job: dict[str, Any]
) -> Row:
    """Return Blender's report on one object; any failure is given by its ``reason``.

    A failed object is tried again in a fresh Blender, and that result counts. Otherwise the
    result could depend on the objects before it, and so on the number of workers.
    """
    if obj.fault is not None:
        return {"reason": obj.fault.reason, "detail": obj.fault.detail}
    with tempfile.TemporaryDirectory(prefix="datagen-asset-") as folder:
        try:
            model = source.fetch(obj, Path(folder))
        except RowError as error:
            return {"reason": "fetch_failed", "detail": str(error)}
        alone = is_opened_alone(model.path)
        if alone:
            blender.close()
        job = job | {"model_path": str(model.path.absolute()), "options": asdict(model.options)}
        try:
            return blender.call("prepare", timeout_s=_TIMEOUT_S, **job)
        except RowError as error:
            logger.info(f"assets: {obj.uid}: retried in a fresh Blender{headline(str(error))}")
            return retry_in_fresh_blender(blender, job)
        finally:
            if alone:
                blender.close()


def retry_in_fresh_blender(blender: Blender, job: dict[str, Any]) -> Row:
    """Return a fresh Blender's report on a job; its reason is ``crashed`` if it fails again."""
    blender.close()
    try:
        return blender.call("prepare", timeout_s=_TIMEOUT_S, **job)
    except RowError as error:
        return {"reason": "crashed", "detail": str(error)}
    finally:
        blender.close()


def is_opened_alone(path: Path) -> bool:
    """Return whether each file of this format is imported in a fresh Blender."""
    suffix = path.suffix.lower()
    return suffix in FORMATS and FORMATS[suffix].alone
