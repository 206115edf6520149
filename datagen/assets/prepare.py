"""From an object in a source to a row of the assets dataset and the two files beside it."""

import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from datagen.assets.measure import Row, asset_row, geometry_path, measure, prepared_path
from datagen.assets.objects import SourceObject
from datagen.assets.source import AssetSource
from datagen.errors import RowError

logger = logging.getLogger(__name__)

PREPARE_TIMEOUT_S = 300.0
"""The slowest of 820 real objects took a few seconds; longer is a file that Blender hangs on."""


class Blender(Protocol):
    """The running Blender that does the work; datagen.blender.BlenderProcess is one."""

    def call(self, op: str, *, timeout_s: float, **fields: Any) -> dict[str, Any]:
        """Run one job; RowError when Blender dies of it."""


def prepare_asset(
    source: AssetSource, obj: SourceObject, blender: Blender, assets_folder: Path
) -> Row:
    """Fetch, clean, measure and keep one object; a bad one becomes a quarantined row.

    Args:
        source: where the object comes from.
        obj: one of its objects.
        blender: runs blender_scripts/prepare.py.
        assets_folder: gets ``geometry/<asset_id>.npz`` and ``prepared/<asset_id>.blend``.

    Returns:
        A row of shards.schemas.ASSETS.
    """
    geometry = (assets_folder / geometry_path(obj.asset_id)).absolute()
    prepared = (assets_folder / prepared_path(obj.asset_id)).absolute()
    geometry.parent.mkdir(parents=True, exist_ok=True)
    prepared.parent.mkdir(parents=True, exist_ok=True)

    report = run_blender(source, obj, blender, geometry, prepared)
    measures = measure(geometry) if report["reason"] is None else {"reason": None}
    row = asset_row(source.name, obj, report, measures)
    if row["status"] != "ok":
        detail = report.get("detail") or "see the reason"
        logger.warning(f"assets: {obj.uid} is quarantined: {row['reason']} ({detail})")
        geometry.unlink(missing_ok=True)
        prepared.unlink(missing_ok=True)
    for texture in report.get("textures_missing", ()):
        logger.info(f"assets: {obj.uid} lacks its texture {texture}; a plain colour stands in")
    return row


def run_blender(
    source: AssetSource, obj: SourceObject, blender: Blender, geometry: Path, prepared: Path
) -> Row:
    """Return Blender's report on one object; a failure of any kind is a reason in it."""
    with tempfile.TemporaryDirectory(prefix="datagen-asset-") as folder:
        try:
            model = source.fetch(obj, Path(folder))
        except RowError as error:
            return {"reason": "fetch_failed", "detail": str(error)}
        try:
            return blender.call(
                "prepare",
                timeout_s=PREPARE_TIMEOUT_S,
                model_path=str(model.path),
                blend_path=str(prepared),
                geometry_path=str(geometry),
                options=asdict(model.options),
            )
        except RowError as error:
            return {"reason": "crashed", "detail": str(error)}
