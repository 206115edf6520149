"""The Blender process of a worker."""

from pathlib import Path

from datagen.blender.process import BlenderProcess
from datagen.engine.logs import log_folder
from datagen.engine.units import WorkerContext


def worker_blender(context: WorkerContext, *, renders: bool = True) -> BlenderProcess:
    """Return the Blender process of a worker. It starts when it is first used.

    Args:
        context: the worker's; its settings choose the Blender, device and restarts.
        renders: False for a Blender that only opens files; it runs on the CPU.
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
    """Return the log file of a worker's Blender."""
    return log_folder(context.folder) / f"blender-{context.name}.log"
