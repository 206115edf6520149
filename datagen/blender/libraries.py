"""The system libraries that Blender's wheel needs, and the Debian packages that have them."""

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
    """Return the names of the libraries that a shared object asks for and the loader lacks."""
    listing = subprocess.run(
        ["ldd", str(shared_object)], capture_output=True, text=True, check=False
    ).stdout
    return sorted(set(re.findall(r"^\s*(\S+) => not found", listing, re.MULTILINE)))


def bpy_shared_object() -> Path | None:
    """Return the compiled part of the installed bpy wheel; None where bpy is not installed."""
    spec = importlib.util.find_spec("bpy")  # finds, does not load
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("__init__*.so"))), None)


def apt_command(libraries: list[str]) -> str:
    """Return the command that installs the Debian packages of some missing libraries."""
    packages = sorted({DEBIAN_PACKAGES.get(name, f"<package of {name}>") for name in libraries})
    return f"sudo apt-get install -y {' '.join(packages)}"


def start_advice(complaint: str) -> str:
    """Say what is missing and what to do, from the words with which Blender failed to start."""
    if "No module named 'bpy'" in complaint:
        return "bpy is not installed in this Python; run `make install`."
    named = re.findall(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file", complaint)
    shared_object = bpy_shared_object()
    also = missing_libraries(shared_object) if named and shared_object else []
    missing = sorted({*named, *also})
    if missing:
        return f"missing system libraries: {', '.join(missing)}; run `{apt_command(missing)}`."
    return "see the log for the reason; `python -c 'import bpy'` in the same Python must work."
