"""Temporary folders that do not pile up: what a killed process left, the next start clears.

All lie in one folder. Each is locked by the process that made it; the lock goes with the process,
however that ends.
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
    """Return the folder of all scratch folders of this user on this machine."""
    return Path(tempfile.gettempdir()) / f"datagen-{os.getuid()}"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make an empty folder, locked; clear those that killed processes left; delete it at last."""
    root = scratch_root()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    clear_abandoned(root)
    path, lock = _make_locked(root)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # a dying child may still write there; later then
        os.close(lock)


def clear_abandoned(root: Path) -> int:
    """Delete the folders that nobody holds a lock on; return how many there were."""
    cleared = 0
    for path in root.iterdir():
        lock = _lock(path)
        if lock is None:
            continue
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
        cleared += 1
    if cleared:
        logger.debug("%d folders of killed processes cleared from %s", cleared, root)
    return cleared


def _make_locked(root: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(dir=root))
        lock = _lock(path)
        if lock is not None and path.exists():
            return path, lock
        if lock is not None:  # somebody cleared it between its making and its locking
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Lock a folder; None if another process holds it, or it is gone."""
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
