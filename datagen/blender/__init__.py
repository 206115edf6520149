"""Blender as a worker process: starting it, sending jobs, handling its failures."""

from datagen.blender.process import (
    BlenderCrashed,
    BlenderJobFailed,
    BlenderProcess,
    BlenderTimedOut,
)
from datagen.blender.rendering import PreparedPlacement, RenderJob, RenderView, render_views

__all__ = [
    "BlenderCrashed",
    "BlenderJobFailed",
    "BlenderProcess",
    "BlenderTimedOut",
    "PreparedPlacement",
    "RenderJob",
    "RenderView",
    "render_views",
]
