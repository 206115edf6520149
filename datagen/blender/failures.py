"""Kinds of render failures, and how they are recognised."""

import re
import signal
from pathlib import Path
from typing import Literal

from datagen.errors import RowError

FailureKind = Literal[
    "segfault",
    "killed",
    "crash",
    "out_of_memory",
    "timeout",
    "gpu_error",
    "python_error",
    "disagreement",
]

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGFPE}
_GPU = r"\b(cuda|optix|hip|oneapi|nvrtc|cu[A-Z]\w+)\b"
_TROUBLE = r"\b(error|failed|illegal|invalid|out of memory)\b"
GPU_WORDS = re.compile(
    rf"{_GPU}[^\n]*{_TROUBLE}|{_TROUBLE}[^\n]*{_GPU}|out of gpu memory", re.IGNORECASE
)
MEMORY_WORDS = re.compile(r"MemoryError|out of memory|bad_alloc|malloc returns null", re.IGNORECASE)


class RenderFailure(RowError):
    """A scene could not be rendered; ``kind`` is why."""

    def __init__(self, message: str, kind: FailureKind) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["RenderFailure"], tuple[str, FailureKind]]:
        return type(self), (str(self), self.kind)


class Disagreement(RenderFailure):
    """The rendered image and the ray-cast instance map show different scenes."""

    def __init__(self, message: str, kind: FailureKind = "disagreement") -> None:
        super().__init__(message, kind)


def kind_of_exit(code: int, log_tail: str, *, oom_killed: bool) -> FailureKind:
    """Return the kind of failure of a process that ended.

    Args:
        code: its exit code, or minus the number of the signal that ended it.
        log_tail: the end of its log.
        oom_killed: whether the kernel killed any process for lack of memory while it ran.
    """
    logged = kind_of_message(log_tail)
    if logged is not None:
        return logged
    if code == -signal.SIGKILL:
        return "out_of_memory" if oom_killed else "killed"
    if code < 0:
        return "segfault" if -code in FAULTS else "killed"
    return "crash"


def kind_of_message(message: str) -> FailureKind | None:
    """Return whether an error message is about a GPU or about memory; None for neither."""
    if GPU_WORDS.search(message):
        return "gpu_error"
    return "out_of_memory" if MEMORY_WORDS.search(message) else None


def oom_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory; 0 if unknown."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
