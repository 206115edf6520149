"""The outside of Blender: the only place that starts one, and the contract of its jobs."""

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
