"""The devices of Cycles on this machine, and the choice among them."""

from typing import Any

import bpy

GPU_KINDS = ("OPTIX", "CUDA")


def choose(wanted: list[str]) -> dict[str, Any]:
    """Select the first kind of device that is available, with all of its GPUs.

    Args:
        wanted: kinds by Cycles' names (``OPTIX``, ``CUDA``, ``CPU``), the preferred one first.

    Returns:
        ``device``: the kind in use, or None. ``devices``: kind and name of all available devices.
    """
    preferences = bpy.context.preferences.addons["cycles"].preferences
    wants_gpu = wanted != ["CPU"]  # without one, no driver is loaded
    available = {kind: _devices(preferences, kind) for kind in GPU_KINDS if wants_gpu}
    listed = [(kind, device.name) for kind, found in available.items() for device in found]
    kind = next((name for name in wanted if name == "CPU" or available.get(name)), None)
    if kind not in (None, "CPU"):
        preferences.compute_device_type = kind
        for device in preferences.devices:
            device.use = device.type == kind
    return {"device": kind, "devices": [*listed, ("CPU", "CPU")]}


def _devices(preferences: Any, kind: str) -> list[Any]:
    return [device for device in preferences.get_devices_for_type(kind) if device.type == kind]
