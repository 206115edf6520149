"""Scratch folders. Those left by killed processes are deleted when the next process starts.

All are in one folder. Each is locked by the process that made it, and the operating system
releases the lock when that process ends, even if it is killed.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)


def scratch_root() -> Path:
    """Return the folder with all scratch folders of this user."""
    return Path(tempfile.gettempdir()) / f"datagen-{os.getuid()}"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty locked folder, which is deleted at the end.

    First, folders that killed processes left are deleted.
    """
    root = scratch_root()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    clear_abandoned(root)
    path, lock = _make_locked(root)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # a child that ends just now may still write here
        os.close(lock)


def clear_abandoned(root: Path) -> int:
    """Delete the unlocked folders in ``root`` and return their number."""
    cleared = 0
    for path in root.iterdir():
        lock = _lock(path)
        if lock is None:
            continue
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
        cleared += 1
    if cleared:
        logger.debug("deleted %d folders of killed processes in %s", cleared, root)
    return cleared


def _make_locked(root: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(dir=root))
        lock = _lock(path)
        if lock is not None and path.exists():
            return path, lock
        if lock is not None:  # another process deleted the folder before it was locked
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Lock a folder and return its descriptor; None if it is locked already or does not exist."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        return None
    return folder
