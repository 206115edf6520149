"""Where Cycles is to render: chosen before Blender starts, and checked in it afterwards."""

import os
from pathlib import Path
from typing import Any

from datagen.errors import BlenderError

DRIVER = Path("/proc/driver/nvidia/gpus")
NODES = Path("/dev")
CYCLES_NAMES = {"cuda": ("CUDA",), "optix": ("OPTIX",), "gpu": ("OPTIX", "CUDA"), "cpu": ("CPU",)}
"""What Cycles calls the devices that satisfy a choice, the preferred one first."""


def sees_gpu() -> bool:
    """Say whether this machine has an NVIDIA GPU that CUDA_VISIBLE_DEVICES leaves to us."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1", "NoDevFiles"):
        return False
    return DRIVER.is_dir() or any(NODES.glob("nvidia[0-9]*"))


def choose_device(asked: str) -> list[str]:
    """Return what Cycles may render on, in its own words, the preferred first.

    Args:
        asked: ``auto``, ``cpu``, ``cuda`` or ``optix``; auto is the GPU wherever one is seen.
    """
    return list(CYCLES_NAMES[("gpu" if sees_gpu() else "cpu") if asked == "auto" else asked])


def check_device(asked: str, hello: dict[str, Any]) -> None:
    """Check that Blender renders where it was told to.

    Raises:
        BlenderError: it does not; nothing falls back to the CPU in silence.
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
