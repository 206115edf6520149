"""The Blender that is used: a Blender executable, or a Python in which bpy is installed."""

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from datagen.errors import BlenderError

BLENDER_VARIABLE = "DATAGEN_BLENDER"
"""Environment variable with a Blender, used if ``--blender`` is not given."""

VERSION_TIMEOUT_S = 120.0  # the first start reads 350 MB from disk


def chosen_blender(blender: str | None) -> str:
    """Return the given Blender, else that of the environment variable, else this Python."""
    return blender or os.environ.get(BLENDER_VARIABLE) or sys.executable


def named_blender(blender: str | None) -> str | None:
    """Return the Blender of the command line; a path becomes absolute, a bare name stays.

    Workers may run in another working directory.
    """
    has_folder = blender is not None and len(Path(blender).parts) > 1
    return str(Path(blender).absolute()) if blender is not None and has_folder else blender


def blender_command(blender: str, script: Path) -> list[str]:
    """Return the command that runs a script inside Blender.

    The script's arguments can be appended to it; they are the last ones of ``sys.argv``.

    Args:
        blender: a Blender executable or a Python with bpy: a path, or a name on the PATH.
        script: a Python file.

    Raises:
        BlenderError: ``blender`` does not start, or is neither Blender nor Python.
    """
    if not is_blender(blender):
        return [blender, str(script), "--"]
    # Factory settings, so that the user's add-ons and preferences do not change images.
    flags = ["--background", "--factory-startup", "--python-exit-code", "1"]
    return [blender, *flags, "--python", str(script), "--"]


def blender_version(blender: str | None) -> str | None:
    """Return the version of the chosen Blender; None if it is not on this machine."""
    program = chosen_blender(blender)
    try:
        if is_blender(program):
            return _version_output(program).removeprefix("Blender ").splitlines()[0]
    except BlenderError:
        return None
    # The package's metadata is read, because importing bpy takes seconds.
    code = "from importlib.metadata import version; print(version('bpy'))"
    result = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


@lru_cache(maxsize=16)
def is_blender(program: str) -> bool:
    """Return True for a Blender executable and False for a Python.

    Raises:
        BlenderError: the program does not start, or is neither of the two.
    """
    if program == sys.executable:
        return False
    output = _version_output(program)
    for name in ("Blender", "Python"):
        if output.startswith(f"{name} "):
            return name == "Blender"
    raise BlenderError(
        f"Blender cannot start: `{program} --version` prints {output[-500:]!r}. {EXPECTED}"
    )


def _version_output(program: str) -> str:
    """Return what a program prints for ``--version``, starting at the line with its name."""
    try:
        result = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_S,
            input="",  # a program that waits for input gets none
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BlenderError(f"Blender cannot start: {program}: {reason}. {EXPECTED}") from None
    lines = (result.stdout + result.stderr).strip().splitlines()
    named = [i for i, line in enumerate(lines) if line.startswith(("Blender ", "Python "))]
    return "\n".join(lines[named[0] if named else 0 :])


EXPECTED = (
    "Expected a Blender executable or a Python 3.11 with bpy; name one with --blender, or run "
    "`make install` to install bpy."
)
