"""``ATTRIBUTION.md``: the authors and licenses of the objects that the scenes show."""

from collections import Counter, defaultdict

from datagen.assets.licenses import UNKNOWN_LICENSE
from datagen.shards import Dataset, Folder, Row
from datagen.shards.workspace import Workspace

FILE = "ATTRIBUTION.md"
COLUMNS = ["asset_id", "source", "source_uid", "name", "license", "author"]


def write_attribution(root: Folder) -> str:
    """Write ``ATTRIBUTION.md`` of a workspace and return its path or URL.

    It lists the objects that are in at least one layout. The same datasets give the same bytes.

    Raises:
        DatasetError: the assets or layouts are missing or unfinished.
    """
    workspace = Workspace(root)
    layouts = workspace.require("layouts", FILE)
    assets = workspace.require("assets", FILE)
    used = count_scenes(layouts)
    rows = [row for row in assets.rows(COLUMNS) if row["asset_id"] in used]
    text = attribution(rows, used, len(layouts))
    root.write_bytes(FILE, text.encode())
    return f"{root}/{FILE}"


def count_scenes(layouts: Dataset) -> Counter[str]:
    """Return the number of scenes that each asset is in, by ``asset_id``."""
    counts: Counter[str] = Counter()
    for row in layouts.rows(["placements"]):
        counts.update({placement["asset_id"] for placement in row["placements"]})
    return counts


def attribution(rows: list[Row], scenes: Counter[str], num_layouts: int) -> str:
    """Return the file's text.

    Args:
        rows: the assets that are used, with COLUMNS.
        scenes: number of scenes that each asset is in, by ``asset_id``.
        num_layouts: number of all scenes.
    """
    by_license: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_license[row["license"]].append(row)
    lines = [
        "# Attribution",
        "",
        f"The {num_layouts} scenes of this dataset show the {len(rows)} objects below. They were "
        "cleaned, scaled, placed and rendered. Their terms also apply to everything derived from "
        "them.",
    ]
    for license_id in sorted(by_license):
        lines += ["", f"## {license_id}", "", terms(license_id), ""]
        lines += ["| object | author | source | scenes |", "|---|---|---|---|"]
        lines += [
            f"| {cell(row['name'])} | {cell(row['author']) or 'not stated'} "
            f"| {row['source']}: {cell(row['source_uid'])} | {scenes[row['asset_id']]} |"
            for row in sorted(by_license[license_id], key=order)
        ]
    return "\n".join(lines) + "\n"


def terms(license_id: str) -> str:
    """Return a sentence on where the terms of a license can be read."""
    if license_id == UNKNOWN_LICENSE:
        return "The source states no license. Ask the author before you distribute these objects."
    if license_id.startswith("LicenseRef-"):
        return "The source states its own terms."
    return f"Terms: <https://spdx.org/licenses/{license_id}.html>"


def order(row: Row) -> tuple[str, str, str]:
    """Return the key by which tables are sorted."""
    return (row["source"], row["author"].casefold(), row["source_uid"])


def cell(text: str) -> str:
    """Return a text that cannot break a table's row."""
    return " ".join(text.replace("|", "\\|").split())
