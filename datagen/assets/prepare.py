"""From an object in a source to a row of the assets dataset and the two files beside it."""

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

PREPARE_TIMEOUT_S = 300.0
"""The slowest of 820 real objects took a few seconds; longer is a file that Blender hangs on."""


class Blender(Protocol):
    """The running Blender that does the work; datagen.blender.BlenderProcess is one."""

    def call(self, op: str, *, timeout_s: float, **fields: Any) -> dict[str, Any]:
        """Run one job; RowError when Blender dies of it."""

    def close(self) -> None:
        """End it; the next call starts a fresh one."""


DEFAULT_MAX_FACES = 200_000
"""Twice what rays and voxels need at 512 pixels; scans have millions."""


def prepare_asset(
    source: AssetSource,
    obj: SourceObject,
    blender: Blender,
    assets_folder: Path,
    *,
    max_faces: int = DEFAULT_MAX_FACES,
) -> Row:
    """Fetch, clean, measure and keep one object; a bad one becomes a quarantined row.

    Args:
        source: where the object comes from.
        obj: one of its objects.
        blender: runs blender_scripts/prepare.py.
        assets_folder: gets ``geometry/<asset_id>.npz`` and ``prepared/<asset_id>.blend``.
        max_faces: an object of more triangles is decimated to about so many.

    Returns:
        A row of shards.declared.ASSETS.
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
        logger.info(f"assets: {obj.uid} lacks its texture {texture}; a plain colour stands in")
    return row


def headline(detail: str) -> str:
    """Return the one line of a detail that says most, in brackets; nothing for nothing."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    # A traceback says it at its end; Blender adds where in its own code it was reported.
    errors = [line for line in lines if re.match(r"[A-Z]\w*(Error|Exception)\b", line)]
    chosen = errors[-1:] if "Traceback" in detail else lines[:1]
    return f" ({(chosen or lines)[0]})" if lines else ""


def run_blender(
    source: AssetSource, obj: SourceObject, blender: Blender, job: dict[str, Any]
) -> Row:
    """Return Blender's report on one object; a failure of any kind is a reason in it.

    Whether Blender dies of an object must not depend on what it held before, or one worker and
    many would disagree: the last word is that of a fresh Blender.
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
            return blender.call("prepare", timeout_s=PREPARE_TIMEOUT_S, **job)
        except RowError as error:
            logger.info(f"assets: {obj.uid}: again in a fresh Blender{headline(str(error))}")
            return once_more(blender, job)
        finally:
            if alone:
                blender.close()


def once_more(blender: Blender, job: dict[str, Any]) -> Row:
    """Return a fresh Blender's report on what the last one failed at."""
    blender.close()
    try:
        return blender.call("prepare", timeout_s=PREPARE_TIMEOUT_S, **job)
    except RowError as error:
        return {"reason": "crashed", "detail": str(error)}
    finally:
        blender.close()


def is_opened_alone(path: Path) -> bool:
    """Say whether files of this format each get a Blender of their own."""
    suffix = path.suffix.lower()
    return suffix in FORMATS and FORMATS[suffix].alone
