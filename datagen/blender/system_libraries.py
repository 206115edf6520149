"""``python -m datagen.blender.system_libraries``: install missing system libraries.

The wheels of bpy and open3d need libraries that pip cannot install.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from datagen.blender.libraries import DEBIAN_PACKAGES, bpy_shared_object, missing_libraries


def wheels_with_needs() -> list[Path]:
    """Return the shared objects in installed wheels that need system libraries."""
    found = [bpy_shared_object()]
    spec = importlib.util.find_spec("open3d")
    if spec is not None and spec.origin is not None:
        found += sorted(Path(spec.origin).parent.glob("libOpen3D*.so*"))
    return [path for path in found if path is not None]


def install_missing_libraries() -> int:
    """Install what is missing, or print the command for it; return 0 if nothing is missing."""
    needed = {name for wheel in wheels_with_needs() for name in missing_libraries(wheel)}
    missing = sorted(needed & DEBIAN_PACKAGES.keys())  # others are inside the wheels
    if not missing:
        return 0
    packages = sorted({DEBIAN_PACKAGES[name] for name in missing})
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    can_install = shutil.which("apt-get") is not None and os.geteuid() == 0
    if can_install:
        sys.stderr.write(f"Installing system libraries: {' '.join(packages)}\n")
        subprocess.run(["apt-get", "update", "-q"], check=False)
        if subprocess.run(command, check=False).returncode == 0:
            return 0
    sys.stderr.write(
        f"System libraries are missing: {', '.join(missing)}. bpy and open3d need them. "
        f"Run: sudo {' '.join(command)}\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(install_missing_libraries())
