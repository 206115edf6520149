"""Which Blender is used: a Blender executable with its own Python, or a Python that has bpy."""

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from datagen.errors import BlenderError

BLENDER_VARIABLE = "DATAGEN_BLENDER"
"""Environment variable that names a Blender where no ``--blender`` does."""

VERSION_TIMEOUT_S = 120.0  # a cold disk reads 350 MB of Blender


def chosen_blender(blender: str | None) -> str:
    """Return the given Blender, else the environment variable's, else this Python."""
    return blender or os.environ.get(BLENDER_VARIABLE) or sys.executable


def named_blender(blender: str | None) -> str | None:
    """Return a Blender as named on the command line, its path absolute: workers run elsewhere."""
    has_folder = blender is not None and len(Path(blender).parts) > 1
    return str(Path(blender).absolute()) if blender is not None and has_folder else blender


def blender_command(blender: str, script: Path) -> list[str]:
    """Return the command that runs a script inside Blender; what is added to it are the script's
    arguments, the last of ``sys.argv``.

    Args:
        blender: a Blender executable or a Python with bpy, a path or a name on the PATH.
        script: a Python file.

    Raises:
        BlenderError: it does not start, or is neither of the two.
    """
    if not is_blender(blender):
        return [blender, str(script), "--"]
    # Factory settings: the add-ons and preferences of whoever works here change no picture.
    flags = ["--background", "--factory-startup", "--python-exit-code", "1"]
    return [blender, *flags, "--python", str(script), "--"]


def blender_version(blender: str | None) -> str | None:
    """Return the version of the chosen Blender; None where it is not on this machine."""
    program = chosen_blender(blender)
    try:
        if is_blender(program):
            return _words_of_version(program).removeprefix("Blender ").splitlines()[0]
    except BlenderError:
        return None
    # Its metadata, since importing bpy takes seconds.
    code = "from importlib.metadata import version; print(version('bpy'))"
    result = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


@lru_cache(maxsize=16)
def is_blender(program: str) -> bool:
    """Say whether a program is a Blender executable; otherwise it is a Python.

    Raises:
        BlenderError: it does not start, or is neither of the two.
    """
    if program == sys.executable:
        return False
    words = _words_of_version(program)
    for name in ("Blender", "Python"):
        if words.startswith(f"{name} "):
            return name == "Blender"
    raise BlenderError(
        f"Blender cannot start: `{program} --version` says {words[-500:]!r}. {EXPECTED}"
    )


def _words_of_version(program: str) -> str:
    """Return what a program answers to ``--version``, from the line with its name on."""
    try:
        result = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_S,
            input="",  # a program that asks for words finds none
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BlenderError(f"Blender cannot start: {program}: {reason}. {EXPECTED}") from None
    lines = (result.stdout + result.stderr).strip().splitlines()
    named = [i for i, line in enumerate(lines) if line.startswith(("Blender ", "Python "))]
    return "\n".join(lines[named[0] if named else 0 :])


EXPECTED = (
    "Expected a Blender executable or a Python 3.11 that has bpy; name one with --blender, or run "
    "`make install` for the one that comes with datagen."
)
