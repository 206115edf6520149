"""The first chapter: the stages that ran, and the rows that each kept, dropped and failed."""

import json
from collections import Counter
from typing import Any

from datagen.report.blocks import Block, Cell, Details, Text, TextTable
from datagen.shards.workspace import Workspace
from datagen.stages.tables import TABLES

_MAX_REASONS = 8


def stages_table(workspace: Workspace) -> list[Block]:
    """Return a table with a row for each stage, and each stage's fields to unfold."""
    manifests = {
        folder: dataset.manifest
        for stage_table in TABLES.values()
        for folder in workspace.folders(stage_table)
        if (dataset := workspace.dataset(folder)) is not None
    }
    if not manifests:
        return [Text("No stage is finished here yet; `datagen layouts` is the first.", "note")]
    header = ["stage", "command", "kept and dropped", "failed", "rows", "seconds"]
    rows = [_funnel_row(folder, manifest) for folder, manifest in manifests.items()]
    details = [_details(folder, manifest) for folder, manifest in manifests.items()]
    return [TextTable(header, rows, 4), *details]


def _funnel_row(folder: str, manifest: dict[str, Any]) -> list[str | Cell]:
    provenance = manifest.get("provenance", {})
    return [
        folder,
        Cell([str(provenance.get("command", ""))], "code"),
        _counts(_words(manifest.get("counts", {}))),
        _counts(Counter(str(failure["reason"]) for failure in manifest.get("failed", []))),
        f"{int(manifest.get('rows', 0)):,}",
        f"{float(provenance.get('seconds', 0)):,.1f}",
    ]


def _words(counts: dict[str, int]) -> Counter[str]:
    return Counter({name.replace("_", " "): count for name, count in counts.items()})


def _counts(counts: Counter[str]) -> Cell:
    if not counts:
        return Cell(["none"], "soft")
    lines = [f"{count:,} × {reason}" for reason, count in counts.most_common(_MAX_REASONS)]
    left_out = len(counts) - len(lines)
    if left_out > 0:
        lines.append(f"and {left_out} more")
    return Cell(lines)


def _details(folder: str, manifest: dict[str, Any]) -> Details:
    shown = {key: manifest.get(key) for key in ("revision", "fingerprint", "fields", "provenance")}
    return Details(f"{folder}: fields and origin", json.dumps(shown, indent=1))
