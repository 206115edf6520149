"""Datasets, sizes and licenses of a workspace, for its card and its Croissant file."""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from datagen.errors import DatasetError
from datagen.shards import Dataset, Folder
from datagen.shards.dataset import open_shard
from datagen.shards.tables import Table
from datagen.shards.workspace import Workspace
from datagen.stages.tables import TABLES


@dataclass(frozen=True)
class DatasetSummary:
    """One sealed dataset with rows."""

    name: str
    """Its folder in the workspace."""
    table: Table
    """The declaration of its columns."""
    dataset: Dataset
    schema: pa.Schema
    sizes: dict[str, int]
    """Bytes of each shard, by its file name."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(self.sizes.values())


@dataclass(frozen=True)
class Summary:
    """A workspace's sealed datasets, and the licenses of the objects that its scenes show."""

    title: str
    datasets: list[DatasetSummary]
    licenses: Counter[str]
    """Number of objects by license. While there are no scenes, all usable objects count."""

    @property
    def finished(self) -> str:
        """Time when the last dataset was sealed, ISO 8601."""
        return max(str(d.dataset.manifest["provenance"]["finished"]) for d in self.datasets)

    @property
    def version(self) -> str:
        """Version of datagen that sealed the last dataset."""
        last = self.datasets[-1].dataset.manifest["provenance"]["versions"]["datagen"]
        return str(last or "0")


def summarise(root: Folder) -> Summary | None:
    """Return the summary of a workspace, None while no dataset with rows is sealed."""
    datasets = []
    workspace = Workspace(root)
    for table in TABLES.values():
        for name in workspace.folders(table):
            dataset = workspace.dataset(name)
            if dataset is not None and dataset.manifest["shards"]:
                sizes = _sizes(dataset)
                datasets.append(DatasetSummary(name, table, dataset, dataset.schema, sizes))
    if not datasets:
        return None
    by_name = {entry.name: entry.dataset for entry in datasets}
    title = root.url.rstrip("/").rsplit("/", 1)[-1]
    return Summary(title, datasets, _licenses(by_name.get("assets"), by_name.get("layouts")))


def _sizes(dataset: Dataset) -> dict[str, int]:
    found = dataset.folder.sizes(".parquet")
    listed = [record["path"] for record in dataset.manifest["shards"]]
    missing = [path for path in listed if path not in found]
    if missing:
        raise DatasetError(
            f"{dataset.folder}/{missing[0]} is missing although the manifest lists it. "
            "Restore the file, or make the dataset again with --overwrite."
        )
    return {path: found[path] for path in listed}


def _licenses(assets: Dataset | None, layouts: Dataset | None) -> Counter[str]:
    if assets is None:
        return Counter()
    used = None if layouts is None else _placed_assets(layouts)
    rows = assets.rows(["asset_id", "license", "status"])
    return Counter(
        row["license"]
        for row in rows
        if (row["status"] == "ok" if used is None else row["asset_id"] in used)
    )


def _placed_assets(layouts: Dataset) -> set[str]:
    used: set[str] = set()
    for record in layouts.manifest["shards"]:
        with open_shard(layouts.folder, record["path"]) as file:
            placements = pc.list_flatten(file.read(["placements"])["placements"])
        used |= set(pc.unique(pc.struct_field(placements, "asset_id")).to_pylist())
    return used
