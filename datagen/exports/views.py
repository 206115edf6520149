"""The views that exports copy: kept ones, joined with their latents where these are made."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datagen.errors import ConfigError
from datagen.shards import Dataset, Folder, Row

EXPORT = "export.json"
PARTS = ".parts"
"""Folder in an unfinished export."""


@dataclass(frozen=True)
class Views:
    """A workspace's kept views."""

    renders: Dataset
    latents: Dataset | None

    def shards(self) -> dict[int, list[int]]:
        """Return the renders' shards: by index, the layouts each may hold, in order."""
        size = int(self.renders.manifest["units_per_shard"])
        members: dict[int, list[int]] = {}
        for unit in self.renders.units():
            members.setdefault(unit // size, []).append(unit)
        return members

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


def claim(out: Folder, kind: str, datasets: Sequence[Dataset]) -> None:
    """Say in an output folder what is exported there, so that a rerun goes on with the same.

    Raises:
        ConfigError: the folder holds something else.
    """
    fingerprints = {dataset.manifest["name"]: dataset.fingerprint for dataset in datasets}
    claimed = json.dumps({"export": kind, "datasets": fingerprints}, indent=1).encode() + b"\n"
    if out.exists(EXPORT) and out.read_bytes(EXPORT) == claimed:
        return
    if not out.is_free():
        raise ConfigError(
            f"--out {out} holds something else than this export of these datasets. "
            "Expected a new folder, or the one of an interrupted export; give another --out."
        )
    out.write_bytes(EXPORT, claimed)


def part_name(shard: int) -> str:
    """Return where lines wait that a file of all shards is made of."""
    return f"{PARTS}/shard-{shard:05d}.jsonl"


def write_part(out: Folder, shard: int, lines: Sequence[dict[str, Any]]) -> None:
    """Write a shard's lines."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    out.write_bytes(part_name(shard), text.encode())


def read_parts(out: Folder, shards: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Iterate over the lines of all shards in order."""
    for shard in shards:
        yield from map(json.loads, out.read_bytes(part_name(shard)).splitlines())


def view_name(row: Row) -> str:
    """Return the name of a view in exports; sorted by name they are sorted by scene and view."""
    return f"{row['layout_id']:06d}_{row['view_index']:03d}"
