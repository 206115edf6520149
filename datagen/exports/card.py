"""``README.md`` (a dataset card) and ``croissant.json`` beside a workspace's data."""

import json
import logging

from datagen.exports.column_tables import column_table
from datagen.exports.croissant import croissant
from datagen.exports.summary import DatasetSummary, Summary, summarise
from datagen.shards import Folder

logger = logging.getLogger(__name__)

CARD = "README.md"
CROISSANT = "croissant.json"
MARK = "<!-- Written by datagen after every stage. Without this line it is yours and stays. -->"

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Hugging Face's size categories: limit of the rows of the largest dataset, and name."""


def write_card(root: Folder) -> None:
    """Write a workspace's card and Croissant file; a README without MARK is left unchanged.

    The same datasets give the same bytes.
    """
    summary = summarise(root)
    if summary is None:
        return
    root.write_bytes(CROISSANT, (json.dumps(croissant(summary), indent=1) + "\n").encode())
    if root.exists(CARD) and MARK not in root.read_bytes(CARD).decode(errors="replace"):
        logger.info(f"{root}/{CARD} was not written by datagen and is left unchanged")
        return
    root.write_bytes(CARD, card(summary).encode())


def card(summary: Summary) -> str:
    """Return the card's text: front matter for Hugging Face, then the text for people."""
    lines = [*_front_matter(summary), MARK, "", f"# {summary.title}", ""]
    lines += [
        "Randomly composed scenes of single 3D objects, made by datagen for models that turn one "
        "image into a 3D scene. Objects are placed at random, without a room, and never collide. "
        "World: right-handed, Z up, metres. Cameras: OpenCV axes, pixels.",
        "",
        "| dataset | a row is | rows | shards | size |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{d.name}` | {d.table.row} | {len(d.dataset):,} | {len(d.sizes)} | "
        f"{_size(d.num_bytes)} |"
        for d in summary.datasets
    ]
    lines += ["", *_reading(summary), *_licenses(summary)]
    for entry in summary.datasets:
        lines += ["", *_columns(entry)]
    lines += ["", "## Identity", "", f"datagen {summary.version}; fingerprints of the datasets:"]
    lines += ["", *(f"- `{d.name}` `{d.dataset.fingerprint}`" for d in summary.datasets)]
    return "\n".join(lines) + "\n"


def _front_matter(summary: Summary) -> list[str]:
    licenses = sorted({hub_license(name) for name in summary.licenses})
    rows = max(len(entry.dataset) for entry in summary.datasets)
    size = next((name for limit, name in SIZES if rows < limit), "n>1M")
    lines = ["---", f"pretty_name: {json.dumps(summary.title)}"]
    lines += [f"license: [{', '.join(licenses)}]"] if licenses else []
    lines += ["task_categories: [image-to-3d]", f"size_categories: [{size}]", "configs:"]
    for entry in summary.datasets:
        config = entry.name.replace("/", "-")  # the hub allows no slash in it
        lines += [f"- config_name: {config}", f"  data_files: {entry.name}/*.parquet"]
    return [*lines, "---"]


def hub_license(spdx_id: str) -> str:
    """Return Hugging Face's name for a license, ``other`` if it has none."""
    known = ("CC", "MIT", "Apache", "BSD", "GPL", "LGPL")
    if not spdx_id.startswith(known):
        return "other"
    return spdx_id.removesuffix("-only").removesuffix("-or-later").lower()


def _reading(summary: Summary) -> list[str]:
    names = [entry.name for entry in summary.datasets]
    name = "latents" if "latents" in names else names[-1]
    return [
        "## Reading",
        "",
        "Plain Parquet (zstd): pyarrow, DuckDB, polars, Ray Data and Hugging Face `datasets` "
        "open it. Tensors are raw bytes, little-endian, C order, shapes below; -1 varies by row.",
        "",
        "```python",
        "import datasets",
        "",
        f'rows = datasets.load_dataset("path/to/this/folder", "{name}", split="train")',
        "```",
        "",
        "`layout_id` and `view_index` join the datasets. `datagen verify` checks every byte.",
        "",
    ]


def _licenses(summary: Summary) -> list[str]:
    if not summary.licenses:
        return []
    words = "Licenses of the objects shown. Their terms also apply to everything derived from them."
    if any(entry.name == "layouts" for entry in summary.datasets):
        words += " `ATTRIBUTION.md` names every object and its author."
    lines = ["## Licenses", "", words, "", "| license | objects |", "|---|---|"]
    return lines + [f"| {name} | {count} |" for name, count in sorted(summary.licenses.items())]


def _columns(entry: DatasetSummary) -> list[str]:
    return [f"## `{entry.name}`", "", *column_table(entry.table, entry.schema)]


def _size(num_bytes: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:,.1f} {unit}"
    return f"{num_bytes / 1e3:,.1f} kB"
