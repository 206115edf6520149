"""What tests of processes share: waiting without luck, whether one lives, and ending it."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition() and time.monotonic() < deadline:
        pause.wait(0.01)
    return condition()


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # one death may bring on another
        process.kill()


def family(driver: int) -> dict[str, list[psutil.Process]]:
    """Return the processes that descend from the driver, by what they are."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.Process(driver).children(recursive=True):
        try:
            words = " ".join(process.cmdline())
        except psutil.NoSuchProcess:  # it ended since it was listed
            continue
        for kind in ("gcs_server", "raylet/raylet", "ray::_Worker", "blender_scripts/worker.py"):
            if kind in words.split(" --")[0]:
                found.setdefault(kind, []).append(process)
    return found
