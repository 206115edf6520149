"""``datagen doctor``: what of datagen works on this machine, and what mends the rest.

Every check is a process of its own: what is broken may take the interpreter with it.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from datagen.blender.executable import chosen_blender, is_blender
from datagen.blender.libraries import start_advice
from datagen.errors import BlenderError

CHECK_TIMEOUT_S = 300.0  # a cold disk reads hundreds of MB
EVALUATE = "pip install 'datagen[evaluate]'"


@dataclass(frozen=True)
class Capability:
    """Something that datagen can do only where a package, and what it loads, is there."""

    module: str
    purpose: str
    code: str
    """Python that fails where it does not work, and else prints what there is in one line."""
    install: str = "make install"
    """The command that brings the package."""
    required: bool = True
    """Whether datagen is broken without it; extras may be left out."""


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
"""In the order in which a run needs them."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found about one capability."""

    capability: Capability
    state: Literal["ok", "absent", "broken"]
    """Absent: the package is not installed. Broken: it is, and does not work."""
    words: str
    """What there is; else what to do."""

    @property
    def healthy(self) -> bool:
        """Whether datagen is as it was meant to be: extras may be absent, not broken."""
        return self.state == "ok" or (self.state == "absent" and not self.capability.required)

    def line(self) -> str:
        """Return it as one line of text."""
        state = self.state if self.state != "absent" or self.capability.required else "left out"
        subject = f"{self.capability.module} ({self.capability.purpose})"
        return f"{state:9} {subject}: {self.words}"


def examine(capabilities: Sequence[Capability] = CAPABILITIES) -> list[Diagnosis]:
    """Try every capability, one after the other."""
    return [diagnose(capability) for capability in capabilities]


def diagnose(capability: Capability) -> Diagnosis:
    """Try one capability in a process of its own."""
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
    return _illness(capability, result.returncode, result.stderr.strip())


def _illness(capability: Capability, code: int, complaint: str) -> Diagnosis:
    if f"No module named '{capability.module}'" in complaint:
        return Diagnosis(capability, "absent", f"not installed; run `{capability.install}`.")
    if ": cannot open shared object file" in complaint:
        return Diagnosis(capability, "broken", start_advice(complaint))
    last = complaint.splitlines()[-1] if complaint else f"it ended with code {code}"
    return Diagnosis(capability, "broken", f"{last}; install it again: `{capability.install}`.")
