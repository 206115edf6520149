"""``report.html`` of a workspace: its chapters, and the files that each of them needs."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datagen.errors import DatasetError, RowError
from datagen.report.asset_sheet import asset_sheet
from datagen.report.blocks import Block, Text
from datagen.report.header import stages_table
from datagen.report.layout_plans import layout_plans
from datagen.report.results import TRAINING_LOG, predictions, scores, training_curve
from datagen.report.template import REPORT, Chapter, render_page
from datagen.report.view_rows import view_rows, voxel_rows
from datagen.shards.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChapterKind:
    """A chapter of every report."""

    anchor: str
    """Its name in links to it."""
    title: str
    needs: tuple[str, ...]
    """Files, relative to the workspace, without which there is nothing to show."""
    command: str
    """The command that makes them."""
    content: Callable[[Workspace], Sequence[Block]]
    """Called when the files are there."""


CHAPTERS: tuple[ChapterKind, ...] = (
    ChapterKind("stages", "Stages", (), "", stages_table),
    ChapterKind("assets", "Objects", ("assets/manifest.json",), "datagen assets", asset_sheet),
    ChapterKind(
        "layouts", "Layouts from above", ("layouts/manifest.json",), "datagen layouts", layout_plans
    ),
    ChapterKind("views", "Views", ("renders/manifest.json",), "datagen render", view_rows),
    ChapterKind(
        "voxels",
        "Voxels",
        ("renders/manifest.json", "latents/manifest.json"),
        "datagen encode",
        voxel_rows,
    ),
    ChapterKind(
        "training", "Training", (TRAINING_LOG.as_posix(),), "datagen train", training_curve
    ),
    ChapterKind(
        "predictions",
        "Sampled scenes beside the truth",
        ("predictions/manifest.json",),
        "datagen infer",
        predictions,
    ),
    ChapterKind("scores", "Scores", ("scores/manifest.json",), "datagen evaluate", scores),
)
"""In the order of the page."""


def write_report(root: Path) -> Path:
    """Write ``report.html`` into a workspace and return its path.

    The page needs no other file. A chapter whose stage is not finished names the command to run.

    Raises:
        DatasetError: the workspace does not exist, or a file that a dataset names is missing.
    """
    if not root.is_dir():
        raise DatasetError(
            f"{root}: no such folder; expected a workspace. Run `datagen run demo` or give --root."
        )
    workspace = Workspace.at(root)
    chapters = [Chapter(c.anchor, c.title, _content(c, workspace)) for c in CHAPTERS]
    path = root / REPORT
    # Renamed at the end, so that a reader never finds half a page.
    unfinished = path.with_name(f".{REPORT}.part")
    html = render_page(f"datagen: {root.absolute().name}", chapters)
    unfinished.write_text(html, encoding="utf-8")
    unfinished.replace(path)
    logger.info(f"report: {path.stat().st_size / 2**20:.1f} MiB → {path}")
    return path


def _content(chapter: ChapterKind, workspace: Workspace) -> Sequence[Block]:
    for needed in chapter.needs:
        if not workspace.root.exists(needed):
            text = f"Not made yet, or not finished: {needed} is missing. Run {chapter.command}."
            return [Text(text, "note")]
    try:
        return chapter.content(workspace)
    except RowError as error:
        raise DatasetError(f"report: {error}") from error
