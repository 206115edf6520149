"""Checks of single rows: their own columns, and the rows and files they refer to."""

from collections.abc import Callable, Iterator

from datagen.shards import Row
from datagen.verify.references import VIEW_COLUMNS, References

PREDICTION_FILES = ("scene.glb", "occupancy.npz", "meta.json")

RowCheck = Callable[[Row, References, str], Iterator[str]]
"""Yields the problems of a row. The last argument is the folder of the row's dataset."""


def _asset(row: Row, references: References, folder: str) -> Iterator[str]:
    for kind in ("geometry", "prepared"):
        path = row[f"{kind}_path"]
        if row["status"] == "ok" and path is None:
            yield f"asset {row['asset_id'][:12]}… is ok but has no {kind}_path"
        elif path is not None and not references.has_file(folder, path):
            yield f"{kind}_path names {folder}/{path}, which is missing"


def _layout(row: Row, references: References, folder: str) -> Iterator[str]:
    assets = references.asset_status
    for index, placement in enumerate(row["placements"]):
        words = f"layout {row['layout_id']}, placement {index}"
        asset_id = placement["asset_id"]
        if assets is not None and assets.get(asset_id) != "ok":
            there = "does not hold" if asset_id not in assets else "has quarantined"
            yield f"{words} names asset {asset_id[:12]}…, which assets {there}"
        if not -1 <= placement["supported_by"] < index:
            yield f"{words} is supported by {placement['supported_by']}, which is not before it"


def _render(row: Row, references: References, folder: str) -> Iterator[str]:
    words = f"layout {row['layout_id']}, view {row['view_index']}"
    layouts = references.num_placements
    if layouts is not None and row["layout_id"] not in layouts:
        yield f"{words}: layouts has no such layout"
    elif layouts is not None:
        count = layouts[row["layout_id"]]
        for column in ("visible_px", "amodal_px"):
            if len(row[column]) != count:
                yield f"{words}: {column} has {len(row[column])} numbers, {count} placements"
    if row["kept"] != (row["drop_reason"] is None):
        yield f"{words}: kept is {row['kept']}, drop_reason is {row['drop_reason']!r}"


def _latent(row: Row, references: References, folder: str) -> Iterator[str]:
    words = f"layout {row['layout_id']}, view {row['view_index']}"
    kept, layouts = references.kept_views, references.num_placements
    if kept is not None and (row["layout_id"], row["view_index"]) not in kept:
        yield f"{words}: renders has no such kept view"
    count = row["num_instances"]
    if layouts is not None and layouts.get(row["layout_id"], count) != count:
        yield f"{words}: {count} instances, {layouts[row['layout_id']]} placements"
    tokens = f"image_tokens/{row['layout_id']}_{row['view_index']}.npy"
    if references.stores_tokens and not references.has_file(folder, tokens):
        yield f"{words}: {folder}/{tokens} is missing"


def _prediction(row: Row, references: References, folder: str) -> Iterator[str]:
    words = f"layout {row['layout_id']}, view {row['view_index']}"
    latents = references.encoded_views
    if latents is not None:
        key = (row["layout_id"], row["view_index"])
        if key not in latents:
            yield f"{words}: latents has no such view"
        elif latents[key] != row["num_instances"]:
            yield f"{words}: {row['num_instances']} instances, latents has {latents[key]}"
    for path in _missing_files(row, references, folder):
        yield f"{words}: {path} is missing"


def _image_scene(row: Row, references: References, folder: str) -> Iterator[str]:
    words, count = f"image {row['image_index']}", row["num_instances"]
    if len(row["labels"]) != count:
        yield f"{words}: {count} instances, {len(row['labels'])} labels"
    if not set(row["empty_instances"]) <= set(range(count)):
        yield f"{words}: empty_instances is {row['empty_instances']}, there are {count} instances"
    for path in _missing_files(row, references, folder):
        yield f"{words}: {path} is missing"


def _missing_files(row: Row, references: References, folder: str) -> Iterator[str]:
    for name in PREDICTION_FILES:
        path = f"{row['path']}/{name}"
        if not references.has_file(folder, path):
            yield f"{folder}/{path}"


def _score(row: Row, references: References, folder: str) -> Iterator[str]:
    predictions = references.predicted_views
    key = (row["layout_id"], row["view_index"])
    if predictions is not None and key not in predictions:
        yield f"layout {key[0]}, view {key[1]}: predictions has no such view"


ROW_CHECKS: dict[str, tuple[list[str], RowCheck]] = {
    "assets": (["asset_id", "status", "geometry_path", "prepared_path"], _asset),
    "layouts": (["layout_id", "placements"], _layout),
    "renders": ([*VIEW_COLUMNS, "kept", "drop_reason", "visible_px", "amodal_px"], _render),
    "latents": ([*VIEW_COLUMNS, "num_instances"], _latent),
    "predictions": ([*VIEW_COLUMNS, "num_instances", "path"], _prediction),
    "scenes": (["image_index", "labels", "num_instances", "empty_instances", "path"], _image_scene),
    "scores": (VIEW_COLUMNS, _score),
}
"""Columns that are read, and the check of a row; by the folder of its table."""
