"""The Blender of one worker, set up as its executor was told."""

from pathlib import Path

from datagen.blender.process import BlenderProcess
from datagen.engine.logs import log_folder
from datagen.engine.units import WorkerContext


def worker_blender(context: WorkerContext, *, renders: bool = True) -> BlenderProcess:
    """Return a worker's Blender; it writes its output to ``logs/`` and starts when first needed.

    Args:
        context: the worker's.
        renders: False for a Blender that only opens files: it looks for no GPU.
    """
    settings = context.settings
    return BlenderProcess(
        blender_log(context),
        blender=settings.blender,
        threads=context.threads,
        device=settings.device if renders else "cpu",
        recycle_scenes=settings.recycle_scenes,
        recycle_growth_mb=settings.recycle_growth_mb,
    )


def blender_log(context: WorkerContext) -> Path:
    """Return where a worker's Blender writes its output."""
    return log_folder(context.folder) / f"blender-{context.name}.log"
