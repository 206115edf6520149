"""The first chapter: what was run, and how many rows each stage kept, dropped and failed."""

import json
from collections import Counter
from html import escape
from typing import Any

from datagen.report.markup import paragraph, table
from datagen.shards.workspace import Workspace
from datagen.stages.tables import TABLES

_MAX_REASONS = 8


def stages_table(workspace: Workspace) -> str:
    """Return a table, a row a stage, and each stage's fields to unfold."""
    manifests = {
        folder: dataset.manifest
        for stage_table in TABLES.values()
        for folder in workspace.folders(stage_table)
        if (dataset := workspace.dataset(folder)) is not None
    }
    if not manifests:
        return paragraph("No stage is finished here yet; `datagen layouts` is the first.", "note")
    header = ["stage", "command", "kept and dropped", "failed", "rows", "seconds"]
    table_html = table(
        header, [_funnel_row(folder, manifest) for folder, manifest in manifests.items()], 4
    )
    details = "".join(_details(folder, manifest) for folder, manifest in manifests.items())
    return table_html + details


def _funnel_row(folder: str, manifest: dict[str, Any]) -> list[str]:
    provenance = manifest.get("provenance", {})
    return [
        escape(folder),
        f"<code>{escape(str(provenance.get('command', '')))}</code>",
        _counts(_words(manifest.get("counts", {}))),
        _counts(Counter(str(failure["reason"]) for failure in manifest.get("failed", []))),
        f"{int(manifest.get('rows', 0)):,}",
        f"{float(provenance.get('seconds', 0)):,.1f}",
    ]


def _words(counts: dict[str, int]) -> Counter[str]:
    return Counter({name.replace("_", " "): count for name, count in counts.items()})


def _counts(counts: Counter[str]) -> str:
    if not counts:
        return '<span class="soft">none</span>'
    lines = [f"{count:,} × {escape(reason)}" for reason, count in counts.most_common(_MAX_REASONS)]
    left_out = len(counts) - len(lines)
    if left_out > 0:
        lines.append(f"and {left_out} more")
    return "<br>".join(lines)


def _details(folder: str, manifest: dict[str, Any]) -> str:
    shown = {key: manifest.get(key) for key in ("revision", "fingerprint", "fields", "provenance")}
    text = escape(json.dumps(shown, indent=1))
    name = escape(folder)
    return f"<details><summary>{name}: fields and origin</summary><pre>{text}</pre></details>"
