"""Log files of the processes that train together."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datagen.training.distributed import Ranks

logger = logging.getLogger(__name__)


def log_file(folder: Path, rank: int) -> Path:
    """Return the path of one process's log file."""
    return folder / f"train-{rank}.log"


@contextmanager
def logged_to(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Write this process's log lines to its own file while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log_file(folder, ranks.rank))
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger("datagen")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        handler.close()
