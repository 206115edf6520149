"""The views that exports copy: kept ones, joined with their latents where these are made."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datagen.errors import ConfigError, DatasetError
from datagen.shards import Dataset, Folder, Row, open_dataset
from datagen.shards.dataset import MANIFEST
from datagen.shards.storage import write_atomically

EXPORT = "export.json"


@dataclass(frozen=True)
class Views:
    """A workspace's kept views."""

    renders: Dataset
    latents: Dataset | None

    def shards(self) -> Iterator[tuple[int, list[int]]]:
        """Iterate over the renders' shards: index, and the layouts it may hold, in order."""
        size = int(self.renders.manifest["units_per_shard"])
        members: dict[int, list[int]] = {}
        for unit in self.renders.units():
            members.setdefault(unit // size, []).append(unit)
        yield from members.items()

    def of_layout(self, layout_id: int) -> Iterator[tuple[Row, Row | None]]:
        """Iterate over a scene's kept views in order: the renders row and the latents row.

        Views without latents are passed over if the workspace has latents: they were not chosen.
        """
        encoded = {}
        if self.latents is not None:
            encoded = {row["view_index"]: row for row in self.latents.rows_of(layout_id)}
        for row in self.renders.rows_of(layout_id):
            if row["kept"] and (self.latents is None or row["view_index"] in encoded):
                yield row, encoded.get(row["view_index"])


def open_needed(root: Folder, name: str, verb: str) -> Dataset:
    """Open a dataset of a workspace that an export cannot do without.

    Raises:
        DatasetError: it is not there; the message names the command that makes it.
    """
    if not (root / name).exists(MANIFEST):
        raise DatasetError(
            f"export: {root / name} is missing or unfinished, and it is needed here. "
            f"Run `datagen {verb} --root {root}` first."
        )
    return open_dataset(root / name)


def claim(out: Path, kind: str, datasets: list[Dataset]) -> None:
    """Say in an output folder what is exported there, so that a rerun goes on with the same.

    Raises:
        ConfigError: the folder holds something else.
    """
    fingerprints = {dataset.manifest["name"]: dataset.fingerprint for dataset in datasets}
    claimed = json.dumps({"export": kind, "datasets": fingerprints}, indent=1) + "\n"
    mine = out / EXPORT
    if mine.is_file() and mine.read_text() == claimed:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"--out {out} holds something else than this export of these datasets. "
            "Expected a new folder, or the one of an interrupted export; give another --out."
        )
    write_atomically(mine, claimed.encode())


def view_name(row: Row) -> str:
    """Return the name of a view in exports; sorted by name they are sorted by scene and view."""
    return f"{row['layout_id']:06d}_{row['view_index']:03d}"
