"""The device on which Cycles renders: chosen before Blender starts, and checked afterwards."""

import os
from pathlib import Path
from typing import Any

from datagen.errors import BlenderError

DRIVER = Path("/proc/driver/nvidia/gpus")
NODES = Path("/dev")
CYCLES_NAMES = {"cuda": ("CUDA",), "optix": ("OPTIX",), "gpu": ("OPTIX", "CUDA"), "cpu": ("CPU",)}
"""Cycles' names of the devices for each choice, the preferred one first."""


def sees_gpu() -> bool:
    """Return whether this machine has an NVIDIA GPU that CUDA_VISIBLE_DEVICES does not hide."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1", "NoDevFiles"):
        return False
    return DRIVER.is_dir() or any(NODES.glob("nvidia[0-9]*"))


def choose_device(asked: str) -> list[str]:
    """Return the devices that Cycles may use, by its own names, the preferred one first.

    Args:
        asked: ``auto``, ``cpu``, ``cuda`` or ``optix``. auto: the GPU if there is one.
    """
    return list(CYCLES_NAMES[("gpu" if sees_gpu() else "cpu") if asked == "auto" else asked])


def check_device(asked: str, hello: dict[str, Any]) -> None:
    """Check that Blender renders on the device that was asked for.

    Args:
        asked: ``auto``, ``cpu``, ``cuda`` or ``optix``.
        hello: Blender's answer when it started, with ``device`` and ``devices``.

    Raises:
        BlenderError: it renders on another device. There is no silent fallback to the CPU.
    """
    if hello["device"] in choose_device(asked):
        return
    listed = ", ".join(f"{name} ({kind})" for kind, name in hello["devices"]) or "none"
    raise BlenderError(
        f"--device {asked}: Cycles has no {' or '.join(choose_device(asked))} device here "
        f"(it lists: {listed}; CUDA_VISIBLE_DEVICES is "
        f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}). Expected one; check the driver "
        "with `nvidia-smi`, or use --device cpu."
    )
