"""The output folder of an export: its claim, and the lines kept for its last file."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from datagen.errors import ConfigError
from datagen.shards import Dataset, Folder, Row

EXPORT = "export.json"
PARTS_FOLDER = ".parts"
"""Folder of an unfinished export, one file for each shard of renders."""


def claim(out: Folder, name: str, datasets: Sequence[Dataset]) -> None:
    """Record in an output folder what is exported there, so that only the same export resumes.

    Raises:
        ConfigError: the folder holds other files, or another export.
    """
    fingerprints = {dataset.manifest["name"]: dataset.fingerprint for dataset in datasets}
    claimed = json.dumps({"export": name, "datasets": fingerprints}, indent=1).encode() + b"\n"
    if out.exists(EXPORT) and out.read_bytes(EXPORT) == claimed:
        return
    if not out.is_free():
        raise ConfigError(
            f"--out {out} holds other files than this export of these datasets. "
            "Expected a new folder, or the one of an interrupted export; give another --out."
        )
    out.write_bytes(EXPORT, claimed)


def part_name(shard: int) -> str:
    """Return the file of one shard's lines, from which ``finish`` makes a file of all shards."""
    return f"{PARTS_FOLDER}/shard-{shard:05d}.jsonl"


def write_part(out: Folder, shard: int, lines: Sequence[dict[str, Any]]) -> None:
    """Write a shard's lines."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    out.write_bytes(part_name(shard), text.encode())


def read_parts(out: Folder, shards: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Iterate over the lines of all shards in order."""
    for shard in shards:
        yield from map(json.loads, out.read_bytes(part_name(shard)).splitlines())


def view_name(row: Row) -> str:
    """Return the name of a view in exports; names sort by scene, then view."""
    return f"{row['layout_id']:06d}_{row['view_index']:03d}"
