"""The log file of another process, shown here as it grows."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

POLL_S = 0.5
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
"""What logging's ``asctime`` begins a line with; the terminal shows the time itself."""


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
