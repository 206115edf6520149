"""The lines of processes whose terminal nobody sees: kept in files, and shown as they come."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datagen.training.distributed import Ranks

logger = logging.getLogger(__name__)

POLL_S = 0.5
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
"""What logging's ``asctime`` begins a line with; the terminal says the time itself."""


def log_file(folder: Path, rank: int) -> Path:
    """Return the file of one process's lines."""
    return folder / f"train-{rank}.log"


@contextmanager
def logged_to(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Write this process's log lines to a file of its own."""
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


@contextmanager
def followed(path: Path) -> Iterator[None]:
    """Log here what another process appends to a file within the block, line by line."""
    position = path.stat().st_size if path.is_file() else 0
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(path, position, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(path: Path, position: int, done: threading.Event) -> None:
    """Read on from a position until it is done; a line is shown when it is whole."""
    is_last = False
    while not is_last:
        is_last = done.wait(POLL_S)
        if not path.is_file():
            continue
        with path.open("rb") as file:
            file.seek(position)
            whole, end, _ = file.read().rpartition(b"\n")
        position += len(whole) + len(end)
        for line in whole.decode(errors="replace").splitlines():
            logger.info(TIME.sub("", line))
