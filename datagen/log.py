"""Logging to stderr, one line an event. Only the command line configures it."""

import logging
import os
import sys
from typing import TextIO


def configure_logging(verbose: bool = False) -> None:
    """Send log lines to stderr: datagen's from INFO (or DEBUG) up, libraries' from WARNING up."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("datagen").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("trimesh").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to the current ``sys.stderr``, which the progress display replaces while it runs."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Ignore the value: the stream is always the current ``sys.stderr``."""
