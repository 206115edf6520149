"""Shows the log file of another process while it is written."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

POLL_S = 0.5
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
"""The ``asctime`` at the start of a line. It is removed, because the terminal adds its own time."""


@contextmanager
def followed(path: Path) -> Iterator[None]:
    """Log every line that another process appends to a file while the block runs."""
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
    """Log new lines after a position until ``done`` is set. Incomplete lines wait."""
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
