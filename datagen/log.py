"""Logging: one event, one line, to stderr. Configured by the command line alone."""

import logging
import os
import sys
from typing import TextIO


def configure_logging(verbose: bool = False) -> None:
    """Send datagen's log lines to stderr, and keep libraries to their warnings."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("datagen").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("trimesh").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at the time: a live line puts itself in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Ignored: the stream is always the present one."""
