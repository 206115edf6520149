"""``report.html``: which chapters there are, and what each of them needs."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from datagen.errors import DatasetError, RowError
from datagen.report.asset_sheet import asset_sheet
from datagen.report.header import stages_table
from datagen.report.layout_plans import layout_plans
from datagen.report.markup import REPORT, page, paragraph, section
from datagen.report.results import TRAINING_LOG, predictions, scores, training_curve
from datagen.report.view_rows import view_rows, voxel_rows
from datagen.shards.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Chapter:
    anchor: str
    title: str
    needs: tuple[str, ...]
    """Files, relative to the workspace, without which there is nothing to show."""
    command: str
    """What makes them."""
    body: Callable[[Workspace], str]


_CHAPTERS = (
    _Chapter("stages", "Stages", (), "", stages_table),
    _Chapter("assets", "Objects", ("assets/manifest.json",), "datagen assets", asset_sheet),
    _Chapter(
        "layouts", "Layouts from above", ("layouts/manifest.json",), "datagen layouts", layout_plans
    ),
    _Chapter("views", "Views", ("renders/manifest.json",), "datagen render", view_rows),
    _Chapter(
        "voxels",
        "Voxels",
        ("renders/manifest.json", "latents/manifest.json"),
        "datagen encode",
        voxel_rows,
    ),
    _Chapter("training", "Training", (TRAINING_LOG.as_posix(),), "datagen train", training_curve),
    _Chapter(
        "predictions",
        "Sampled scenes beside the truth",
        ("predictions/manifest.json",),
        "datagen infer",
        predictions,
    ),
    _Chapter("scores", "Scores", ("scores/manifest.json",), "datagen evaluate", scores),
)


def write_report(root: Path) -> Path:
    """Write ``report.html`` into a workspace and return its path.

    One file, no requests: pictures are in it. Chapters whose stage is not finished say so.

    Raises:
        DatasetError: the workspace does not exist, or a file that a dataset names is gone.
    """
    if not root.is_dir():
        raise DatasetError(
            f"{root}: no such folder; expected a workspace. Run `datagen run demo` or give --root."
        )
    workspace = Workspace.at(root)
    navigation = " ".join(f'<a href="#{c.anchor}">{escape(c.title)}</a>' for c in _CHAPTERS)
    chapters = [
        section(chapter.anchor, chapter.title, _chapter_body(chapter, workspace))
        for chapter in _CHAPTERS
    ]
    title = f"datagen: {root.absolute().name}"
    body = f"<h1>{escape(title)}</h1><nav>{navigation}</nav>" + "".join(chapters)
    path = root / REPORT
    # Renamed at the end, so that a reader never finds half a page.
    unfinished = path.with_name(f".{REPORT}.part")
    unfinished.write_text(page(title, body), encoding="utf-8")
    unfinished.replace(path)
    logger.info(f"report: {path.stat().st_size / 2**20:.1f} MiB → {path}")
    return path


def _chapter_body(chapter: _Chapter, workspace: Workspace) -> str:
    for needed in chapter.needs:
        if not workspace.root.exists(needed):
            text = f"Not made yet, or not finished: {needed} is not there. Run {chapter.command}."
            return paragraph(text, "note")
    try:
        return chapter.body(workspace)
    except RowError as error:
        raise DatasetError(f"report: {error}") from error
