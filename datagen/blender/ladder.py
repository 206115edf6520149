"""What is tried before a scene is a failed row: again, a fresh Blender, and at last less work."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from datagen.blender.failures import Kind, RenderFailure
from datagen.blender.process import BlenderProcess
from datagen.errors import StageError

logger = logging.getLogger(__name__)

Made = TypeVar("Made")

LESS_HELPS: frozenset[Kind] = frozenset(
    ("segfault", "killed", "crash", "out_of_memory", "timeout", "gpu_error")
)
"""A Python error and a disagreement come from the scene: they would be the same with less."""

RUNGS = ("as asked", "again", "in a fresh Blender", "with less")
LITTLE_ROOM_BYTES = 16 << 20


def climb(
    render: Callable[[bool], Made], blender: BlenderProcess, events: Counter[str], replay: str
) -> Made:
    """Render a scene, and try harder while it fails.

    The first three attempts give the same pixels, so an accident leaves no trace in the data.

    Args:
        render: makes the scene; told whether with less (fewer samples, or on the CPU).
        blender: what it is rendered with.
        events: counts each further attempt by the kind of failure, ``retry_<kind>``.
        replay: the command that makes this scene alone.

    Raises:
        RenderFailure: nothing helped; says the kind, what was tried, and the replaying command.
        StageError: the disk is full, which is no scene's fault.
    """
    failure: RenderFailure | None = None
    for index, rung in enumerate(RUNGS):
        less = index == len(RUNGS) - 1
        if failure is not None:
            if less and failure.kind not in LESS_HELPS:
                break
            logger.warning("tried %s after %s: %s", rung, failure.kind, _first_line(failure))
            events[f"retry_{failure.kind}"] += 1
        if index >= RUNGS.index("in a fresh Blender"):
            blender.recycle()
        try:
            return render(less)
        except RenderFailure as error:
            failure = error
        except MemoryError as error:
            failure = RenderFailure(f"{type(error).__name__}: {error}", "out_of_memory")
        _check_room(blender, failure)
    assert failure is not None
    tried = ", ".join(RUNGS[: index + (failure.kind in LESS_HELPS)])
    raise RenderFailure(
        f"{failure.kind}: {failure} Tried {tried}. Replay: {replay}", failure.kind
    ) from failure


def _check_room(blender: BlenderProcess, failure: RenderFailure) -> None:
    """Raise if it failed for want of room: every scene would."""
    for folder in blender.folders:
        free = shutil.disk_usage(folder).free
        if free < LITTLE_ROOM_BYTES:
            raise StageError(
                f"{folder}: only {free >> 10} kB are free, and Blender failed "
                f"({_first_line(failure)}). Expected {LITTLE_ROOM_BYTES >> 20} MB; free some "
                "space and run the same command again, it goes on where it stopped."
            )


def _first_line(failure: RenderFailure) -> str:
    return str(failure).partition("\n")[0]
