"""``datagen verify``: every dataset of a workspace by itself, and what its rows refer to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from datagen.errors import DatasetError
from datagen.shards import Folder, Row
from datagen.shards.dataset import open_shard, shard_name
from datagen.shards.workspace import VERB_OF_FOLDER
from datagen.verify.contents import CONTENT_CHECKS
from datagen.verify.references import VIEW, References
from datagen.verify.shards import Finding, FolderCheck, check_folder

PREDICTION_FILES = ("scene.glb", "occupancy.npz", "meta.json")


MAX_LINES = 100
"""Problems of one dataset that are printed."""


@dataclass
class Verification:
    """What was looked at, and what was found."""

    checks: list[FolderCheck]
    notes: list[str]
    """References that could not be followed because their target cannot be read."""

    @property
    def findings(self) -> list[Finding]:
        return [finding for check in self.checks for finding in check.findings]

    def text(self) -> str:
        """Return a line for every dataset, every problem below its own, and the total."""
        lines = []
        for check in self.checks:
            lines.append(f"{check.name}: {_size(check)}: {_count(len(check.findings))}")
            lines += [f"  {finding}" for finding in check.findings[:MAX_LINES]]
            if len(check.findings) > MAX_LINES:
                lines.append(f"  … and {len(check.findings) - MAX_LINES} more")
        lines += [f"note: {note}" for note in self.notes]
        lines.append(f"verify: {_count(len(self.findings))} in {len(self.checks)} datasets")
        return "\n".join(lines) + "\n"


def verify_path(folder: Folder, *, deep: bool = False, threads: int = 4) -> Verification:
    """Check a workspace, or the one dataset that a folder is, beside what it refers to."""
    parent, _, name = folder.url.rstrip("/").rpartition("/")
    is_dataset = name in VERB_OF_FOLDER and not any((folder / n).names() for n in VERB_OF_FOLDER)
    if is_dataset and folder.names():
        return verify_workspace(Folder.at(parent), [name], deep=deep, threads=threads)
    return verify_workspace(folder, deep=deep, threads=threads)


def verify_workspace(
    root: Folder, names: Sequence[str] | None = None, *, deep: bool = False, threads: int = 4
) -> Verification:
    """Check datasets of a workspace: bytes against manifests, and references between them.

    Args:
        root: the workspace.
        names: folders to check, by default all that are there. What they refer to is read too.
        deep: also decode every image and geometry file, and count their pixels and faces.
        threads: shards that are hashed at once.

    Raises:
        DatasetError: no dataset is there.
    """
    present = [name for name in VERB_OF_FOLDER if (root / name).names()]
    chosen = [name for name in present if names is None or name in names]
    if not chosen:
        raise DatasetError(
            f"{root} holds no dataset. Expected a workspace with one of "
            f"{', '.join(VERB_OF_FOLDER)}, or a dataset's own folder."
        )
    references = References(root)
    checks = [check_folder(root / name, name, threads) for name in chosen]
    for check in checks:
        if check.dataset is None:
            continue
        _check_inputs(check, references)
        if check.name in ROW_CHECKS:
            _check_rows(check, *ROW_CHECKS[check.name], references)
        _check_units(check, references)
        if deep and check.name in CONTENT_CHECKS:
            _check_rows(check, *CONTENT_CHECKS[check.name], references)
    return Verification(checks, references.notes)


def _size(check: FolderCheck) -> str:
    if check.dataset is None:
        return "not sealed"
    manifest = check.dataset.manifest
    megabytes = check.num_bytes / 1e6
    return f"{manifest['rows']} rows, {len(manifest['shards'])} shards, {megabytes:.1f} MB"


def _count(number: int) -> str:
    return "sound" if number == 0 else f"{number} problem{'s' if number > 1 else ''}"


RowCheck = Callable[[Row, References], Iterator[str]]


def _check_inputs(check: FolderCheck, references: References) -> None:
    assert check.dataset is not None
    for name, fingerprint in check.dataset.manifest["inputs"].items():
        other = references.dataset(name)
        if other is not None and other.fingerprint != fingerprint:
            check.add(
                "manifest.json",
                f"was made from other {name} ({fingerprint[:12]}…) than those beside it "
                f"({other.fingerprint[:12]}…)",
            )


def _check_rows(
    check: FolderCheck, columns: list[str], problems: RowCheck, references: References
) -> None:
    assert check.dataset is not None
    if not check.readable:
        return
    with open_shard(check.dataset.folder, check.readable[0]) as file:
        missing = sorted(set(columns) - set(file.schema_arrow.names))
    if missing:
        check.add(check.readable[0], f"column {missing[0]} is missing, and every shard needs it")
        return
    for path in check.readable:
        for index, row in enumerate(check.dataset.shard_rows(path, columns)):
            for problem in problems(row, references):
                check.add(path, problem, index)


def _check_units(check: FolderCheck, references: References) -> None:
    """Every scene has rows or is among the failed; every kept view its latents."""
    dataset = check.dataset
    assert dataset is not None
    if len(check.readable) < len(dataset.manifest["shards"]):
        return  # a shard that cannot be read is reported as such, not once more by each scene
    failed = {failure["unit"] for failure in dataset.manifest["failed"]}
    size = dataset.manifest["units_per_shard"]
    if check.name == "renders" and (layouts := references.num_placements) is not None:
        for unit in sorted(layouts.keys() - set(dataset.units()) - failed):
            problem = f"layout {unit} has no row and is not among the failed"
            check.add(shard_name(unit // size), problem)
    if check.name == "latents" and dataset.fields.get("views_per_scene") is None:
        kept, encoded = references.kept_views, references.encoded_views
        if kept is not None and encoded is not None:
            for unit, view in sorted(kept - encoded.keys()):
                if unit not in failed:
                    problem = f"layout {unit}, view {view} was kept but has no row"
                    check.add(shard_name(unit // size), problem)


def _asset(row: Row, references: References) -> Iterator[str]:
    for kind in ("geometry", "prepared"):
        path = row[f"{kind}_path"]
        if row["status"] == "ok" and path is None:
            yield f"asset {row['asset_id'][:12]}… is ok but has no {kind}_path"
        elif path is not None and not references.has_file("assets", path):
            yield f"{kind}_path names assets/{path}, which is missing"


def _layout(row: Row, references: References) -> Iterator[str]:
    assets = references.asset_status
    for index, placement in enumerate(row["placements"]):
        words = f"layout {row['layout_id']}, placement {index}"
        asset_id = placement["asset_id"]
        if assets is not None and assets.get(asset_id) != "ok":
            there = "does not hold" if asset_id not in assets else "has quarantined"
            yield f"{words} names asset {asset_id[:12]}…, which assets {there}"
        if not -1 <= placement["supported_by"] < index:
            yield f"{words} is supported by {placement['supported_by']}, which is not before it"


def _render(row: Row, references: References) -> Iterator[str]:
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


def _latent(row: Row, references: References) -> Iterator[str]:
    words = f"layout {row['layout_id']}, view {row['view_index']}"
    kept, layouts = references.kept_views, references.num_placements
    if kept is not None and (row["layout_id"], row["view_index"]) not in kept:
        yield f"{words}: renders has no such kept view"
    count = row["num_instances"]
    if layouts is not None and layouts.get(row["layout_id"], count) != count:
        yield f"{words}: {count} instances, {layouts[row['layout_id']]} placements"
    tokens = f"image_tokens/{row['layout_id']}_{row['view_index']}.npy"
    if references.stores_tokens and not references.has_file("latents", tokens):
        yield f"{words}: latents/{tokens} is missing"


def _prediction(row: Row, references: References) -> Iterator[str]:
    words = f"layout {row['layout_id']}, view {row['view_index']}"
    latents = references.encoded_views
    if latents is not None:
        key = (row["layout_id"], row["view_index"])
        if key not in latents:
            yield f"{words}: latents has no such view"
        elif latents[key] != row["num_instances"]:
            yield f"{words}: {row['num_instances']} instances, latents has {latents[key]}"
    for file in PREDICTION_FILES:
        if not references.has_file("predictions", f"{row['path']}/{file}"):
            yield f"{words}: predictions/{row['path']}/{file} is missing"


def _score(row: Row, references: References) -> Iterator[str]:
    predictions = references.predicted_views
    key = (row["layout_id"], row["view_index"])
    if predictions is not None and key not in predictions:
        yield f"layout {key[0]}, view {key[1]}: predictions has no such view"


ROW_CHECKS: dict[str, tuple[list[str], RowCheck]] = {
    "assets": (["asset_id", "status", "geometry_path", "prepared_path"], _asset),
    "layouts": (["layout_id", "placements"], _layout),
    "renders": ([*VIEW, "kept", "drop_reason", "visible_px", "amodal_px"], _render),
    "latents": ([*VIEW, "num_instances"], _latent),
    "predictions": ([*VIEW, "num_instances", "path"], _prediction),
    "scores": (VIEW, _score),
}
"""Columns that are read, and what is wrong with a row; by folder."""
