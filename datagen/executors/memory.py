"""Resident memory of processes."""

import psutil


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB; 0.0 if it has ended."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def resident_tree_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants in MB; 0.0 if it has ended."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return 0.0
    return resident_mb(pid) + sum(resident_mb(child.pid) for child in children)
