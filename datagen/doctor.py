"""``datagen doctor``: which capabilities work on this machine, and how to repair the others.

Each check runs in a process of its own, because a broken package can crash the interpreter.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from datagen.blender.executable import chosen_blender, is_blender
from datagen.blender.libraries import start_advice
from datagen.errors import BlenderError

CHECK_TIMEOUT_S = 300.0  # the first import reads hundreds of MB from disk
EVALUATE = "pip install 'datagen[evaluate]'"


@dataclass(frozen=True)
class Capability:
    """Something that datagen can do only if a package and the libraries it loads are installed."""

    module: str
    purpose: str
    code: str
    """Python code that prints one line, such as a version, or fails if the package is broken."""
    install: str = "make install"
    """The command that installs the package."""
    required: bool = True
    """Whether datagen is broken without it. False: it is an extra."""


CAPABILITIES = (
    Capability("bpy", "prepares and renders objects", "import bpy; print(bpy.app.version_string)"),
    Capability(
        "torch",
        "trains, samples, refines",
        "import torch; seen = range(torch.cuda.device_count()); names = [torch.cuda."
        "get_device_name(i) for i in seen]; print(torch.__version__, 'on', *(names or ['CPU']))",
    ),
    Capability("ray", "--workers above 1", "import ray; print(ray.__version__)"),
    Capability(
        "datagen.models",
        "the small encoder and decoder that need no download",
        "import torch; from datagen.models.named_checkpoints import load_autoencoder as load; "
        "print(*(type(load('small', r, torch.device('cpu'))).__name__ for r in "
        "('encoder', 'decoder')))",
    ),
    Capability(
        "open3d",
        "evaluate: robust ICP",
        "import open3d; print(open3d.__version__)",
        EVALUATE,
        required=False,
    ),
    Capability(
        "fcl",
        "evaluate and verify: collisions",
        "import fcl; fcl.BVHModel(); from importlib.metadata import version; "
        "print(version('python-fcl'))",
        EVALUATE,
        required=False,
    ),
    Capability(
        "xatlas",
        "infer --models structure latent: textured meshes",
        "import fast_simplification, pymeshfix, xatlas; from importlib.metadata import version; "
        "print(version('xatlas'))",
        "pip install 'datagen[textures]'",
        required=False,
    ),
)
"""Sorted by when a run needs them."""


@dataclass(frozen=True)
class Diagnosis:
    """The result of checking one capability."""

    capability: Capability
    state: Literal["ok", "absent", "broken"]
    """Absent: the package is not installed. Broken: it is installed and does not work."""
    details: str
    """What was found, such as a version, or the problem and the command that solves it."""

    @property
    def healthy(self) -> bool:
        """Whether nothing needs repair: the capability works, or is an extra that is absent."""
        return self.state == "ok" or (self.state == "absent" and not self.capability.required)

    def line(self) -> str:
        """Return the result as one line of text."""
        state = self.state if self.state != "absent" or self.capability.required else "left out"
        subject = f"{self.capability.module} ({self.capability.purpose})"
        return f"{state:9} {subject}: {self.details}"


def examine(capabilities: Sequence[Capability] = CAPABILITIES) -> list[Diagnosis]:
    """Return the result of checking each capability, in the same order."""
    return [diagnose(capability) for capability in capabilities]


def diagnose(capability: Capability) -> Diagnosis:
    """Return the result of checking one capability in a process of its own."""
    python = sys.executable
    if capability.module == "bpy":
        python = chosen_blender(None)
        try:
            if is_blender(python):
                return Diagnosis(capability, "ok", f"{python}, a Blender executable")
        except BlenderError as error:
            return Diagnosis(capability, "broken", str(error))
    try:
        result = subprocess.run(
            [python, "-c", capability.code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Diagnosis(capability, "broken", f"{error}; run it again, or {capability.install}.")
    if result.returncode == 0:
        return Diagnosis(capability, "ok", (result.stdout.strip().splitlines() or [""])[-1])
    return _diagnose_failure(capability, result.returncode, result.stderr.strip())


def _diagnose_failure(capability: Capability, code: int, stderr: str) -> Diagnosis:
    if f"No module named '{capability.module}'" in stderr:
        return Diagnosis(capability, "absent", f"not installed; run `{capability.install}`.")
    if ": cannot open shared object file" in stderr:
        return Diagnosis(capability, "broken", start_advice(stderr))
    last = stderr.splitlines()[-1] if stderr else f"it ended with code {code}"
    return Diagnosis(capability, "broken", f"{last}; install it again: `{capability.install}`.")
