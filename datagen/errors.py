"""The errors that a user can act on. Anything else that escapes is a bug and keeps its traceback.

A message has four parts: where, what (with the value), what was expected, what to do.
"""


class DatagenError(Exception):
    """Base of every error that the command line prints as one line (exit code 2)."""


class ConfigError(DatagenError):
    """A field, flag or pipeline has a value that cannot work."""


class DatasetError(DatagenError):
    """A dataset, source or checkpoint is missing, foreign, damaged or of other fields."""


class BlenderError(DatagenError):
    """Blender cannot be started here at all."""


class StageError(DatagenError):
    """A stage ended with more failures than it may have, or cannot go on."""


class RowError(Exception):
    """One row cannot be made. It becomes a failed row with this reason; the run goes on."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
