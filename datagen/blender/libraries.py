"""System libraries that the wheels of bpy and open3d need, and the Debian packages with them."""

import importlib.util
import re
import subprocess
from pathlib import Path

DEBIAN_PACKAGES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libudev.so.1": "libudev1",
    "libidn2.so.0": "libidn2-0",
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libICE.so.6": "libice6",
    "libSM.so.6": "libsm6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libXrender.so.1": "libxrender1",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libgomp.so.1": "libgomp1",
    "libxkbcommon.so.0": "libxkbcommon0",
}


def missing_libraries(shared_object: Path) -> list[str]:
    """Return the names of the libraries that a shared object needs and the loader cannot find."""
    listing = subprocess.run(
        ["ldd", str(shared_object)], capture_output=True, text=True, check=False
    ).stdout
    return sorted(set(re.findall(r"^\s*(\S+) => not found", listing, re.MULTILINE)))


def bpy_shared_object() -> Path | None:
    """Return the compiled part of the installed bpy package; None if bpy is not installed."""
    spec = importlib.util.find_spec("bpy")  # does not import it
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("__init__*.so"))), None)


def apt_command(libraries: list[str]) -> str:
    """Return the command that installs the Debian packages of the given libraries."""
    packages = sorted({DEBIAN_PACKAGES.get(name, f"<package of {name}>") for name in libraries})
    return f"sudo apt-get install -y {' '.join(packages)}"


def start_advice(error: str) -> str:
    """Return what is missing and what to do, given the error with which Blender failed to start."""
    if "No module named 'bpy'" in error:
        return "bpy is not installed in this Python; run `make install`."
    named = re.findall(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file", error)
    shared_object = bpy_shared_object()
    also = missing_libraries(shared_object) if named and shared_object else []
    missing = sorted({*named, *also})
    if missing:
        return f"missing system libraries: {', '.join(missing)}; run `{apt_command(missing)}`."
    return "see the log for the reason; `python -c 'import bpy'` must work in the same Python."
