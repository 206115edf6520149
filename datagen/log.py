"""Logging: one event, one line, to stderr. Configured by the command line alone."""

import logging
import os
import sys


def configure_logging(verbose: bool = False) -> None:
    """Send datagen's log lines to stderr, and keep libraries to their warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("datagen").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("trimesh").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
