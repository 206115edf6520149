"""Retrying a failed scene: again, then in a fresh Blender, then with less work."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from datagen.blender.failures import FailureKind, RenderFailure
from datagen.blender.process import BlenderProcess
from datagen.errors import StageError, first_line

logger = logging.getLogger(__name__)

Made = TypeVar("Made")

ATTEMPTS = ("as asked", "again", "in a fresh Blender", "with less")

HELPED_BY_LESS_WORK: frozenset[FailureKind] = frozenset(
    ("segfault", "killed", "crash", "out_of_memory", "timeout", "gpu_error")
)
"""A Python error and a disagreement come from the scene itself, so less work does not help."""

MIN_FREE_BYTES = 16 << 20


def retry(
    render: Callable[[bool], Made], blender: BlenderProcess, events: Counter[str], replay: str
) -> Made:
    """Return what ``render`` returns, after at most one call for each of ATTEMPTS.

    The first three attempts give the same pixels, so their failures do not change the data.

    Args:
        render: makes the scene. Its argument is whether to do less work (fewer samples, or the
            CPU).
        blender: the Blender that renders.
        events: counts each further attempt as ``retry_<kind>``, by the kind of failure before it.
        replay: the command that makes this scene alone.

    Raises:
        RenderFailure: all attempts failed; it has the kind, the attempts and the command.
        StageError: the disk is full, so every scene would fail.
    """
    failure: RenderFailure | None = None
    for index, attempt in enumerate(ATTEMPTS):
        less = index == len(ATTEMPTS) - 1
        if failure is not None:
            if less and failure.kind not in HELPED_BY_LESS_WORK:
                break
            logger.warning("tried %s after %s: %s", attempt, failure.kind, first_line(failure))
            events[f"retry_{failure.kind}"] += 1
        if index >= ATTEMPTS.index("in a fresh Blender"):
            blender.recycle()
        try:
            return render(less)
        except RenderFailure as error:
            failure = error
        except MemoryError as error:
            failure = RenderFailure(f"{type(error).__name__}: {error}", "out_of_memory")
        _check_disk(blender, failure)
    assert failure is not None
    tried = ", ".join(ATTEMPTS[: index + (failure.kind in HELPED_BY_LESS_WORK)])
    raise RenderFailure(
        f"{failure.kind}: {failure} Tried {tried}. Replay: {replay}", failure.kind
    ) from failure


def _check_disk(blender: BlenderProcess, failure: RenderFailure) -> None:
    """Raise StageError if the disk is full: every other scene would fail, too."""
    for folder in blender.folders:
        free = shutil.disk_usage(folder).free
        if free < MIN_FREE_BYTES:
            raise StageError(
                f"{folder}: only {free >> 10} kB are free, and Blender failed "
                f"({first_line(failure)}). Expected at least {MIN_FREE_BYTES >> 20} MB; free some "
                "space and run the same command again, which resumes."
            )
