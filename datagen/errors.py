"""The errors that a user can act on. Any other exception is a bug and keeps its traceback.

A message has four parts: where, what (with the value), what was expected, what to do.
"""


class DatagenError(Exception):
    """Base of every error that the command line prints as one line (exit code 2)."""


class ConfigError(DatagenError):
    """A field, flag or pipeline has a value that cannot work."""


class DatasetError(DatagenError):
    """A dataset, source or checkpoint is missing, damaged or not the one expected."""


class BlenderError(DatagenError):
    """Blender cannot work on this machine: it does not start, or its version or device is wrong."""


class StageError(DatagenError):
    """A stage had more failures than allowed, or cannot continue."""


class RowError(Exception):
    """One row cannot be made. It becomes a failed row with this reason, and the run continues."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
