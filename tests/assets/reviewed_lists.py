"""Writing reviewed lists of assets."""

import csv
from collections.abc import Iterable
from pathlib import Path

from datagen.assets.objects import SourceObject
from datagen.assets.selection import LIST_COLUMNS


def write_list(path: Path, objects: Iterable[SourceObject], source: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LIST_COLUMNS)
        for obj in objects:
            writer.writerow([obj.asset_id, obj.license, source, obj.uid, obj.name, obj.author])
