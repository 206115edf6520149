"""The devices that Cycles has here, and the choice of those that it uses."""

from typing import Any

import bpy

GPU_KINDS = ("OPTIX", "CUDA")


def choose(wanted: list[str]) -> dict[str, Any]:
    """Use the first kind of device that is there, all of its GPUs.

    Args:
        wanted: kinds in Cycles' words (``OPTIX``, ``CUDA``, ``CPU``), the preferred first.

    Returns:
        ``device`` (the kind in use, None if none of them is there) and ``devices`` [(kind, name)].
    """
    preferences = bpy.context.preferences.addons["cycles"].preferences
    asks_gpu = wanted != ["CPU"]  # a driver is only touched where a GPU is meant to be
    there = {kind: _devices(preferences, kind) for kind in GPU_KINDS if asks_gpu}
    listed = [(kind, device.name) for kind, found in there.items() for device in found]
    kind = next((name for name in wanted if name == "CPU" or there.get(name)), None)
    if kind not in (None, "CPU"):
        preferences.compute_device_type = kind
        for device in preferences.devices:
            device.use = device.type == kind
    return {"device": kind, "devices": [*listed, ("CPU", "CPU")]}


def _devices(preferences: Any, kind: str) -> list[Any]:
    return [device for device in preferences.get_devices_for_type(kind) if device.type == kind]
