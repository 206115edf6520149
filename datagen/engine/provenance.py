"""Provenance of a dataset: versions, commit, command line and hardware."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datagen.blender.executable import blender_version
from datagen.core.version import package_version

PACKAGES = ("datagen", "embreex", "numpy", "pyarrow", "ray", "shapely", "torch", "trimesh")


def provenance(seconds: float, executor: str, blender: str | None = None) -> dict[str, Any]:
    """Return how a dataset was made, as JSON data. It does not affect the dataset's identity.

    Args:
        seconds: duration of the run.
        executor: a phrase that describes it.
        blender: the executable, or None for the default.
    """
    return {
        "seconds": round(seconds, 2),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "executor": executor,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git_commit": _git_commit(),
        "versions": {name: package_version(name) for name in PACKAGES},
        "blender": blender_version(blender),
        "python": platform.python_version(),
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count()},
    }


def _git_commit() -> str | None:
    source = Path(__file__).resolve().parent
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
