"""Resident memory of processes, from ``/proc``; 0 where there is none."""

import os
from pathlib import Path

PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


def resident_mb(pid: int) -> float:
    """Return the resident memory of one process in MB; 0.0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def resident_tree_mb(pid: int) -> float:
    """Return the resident memory of a process and all that descend from it, in MB."""
    return resident_mb(pid) + sum(resident_tree_mb(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, thread.read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
    return found
