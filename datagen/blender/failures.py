"""Why a scene was not rendered: the kinds that a person tells apart, and how they are known."""

import re
import signal
from pathlib import Path
from typing import Literal

from datagen.errors import RowError

Kind = Literal[
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
    """A scene could not be rendered, and it is known in which way."""

    def __init__(self, message: str, kind: Kind) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["RenderFailure"], tuple[str, Kind]]:
        return type(self), (str(self), self.kind)


class Disagreement(RenderFailure):
    """The picture and the rays show different scenes."""

    def __init__(self, message: str, kind: Kind = "disagreement") -> None:
        super().__init__(message, kind)


def kind_of_exit(code: int, last_words: str, *, oom_killed: bool) -> Kind:
    """Return how a process ended.

    Args:
        code: as subprocess has it: minus the signal's number, or the exit code.
        last_words: the end of its log.
        oom_killed: whether the kernel killed a process for memory while it ran.
    """
    told = kind_of_words(last_words)
    if told is not None:
        return told
    if code == -signal.SIGKILL:
        return "out_of_memory" if oom_killed else "killed"
    if code < 0:
        return "segfault" if -code in FAULTS else "killed"
    return "crash"


def kind_of_words(words: str) -> Kind | None:
    """Return what an error's own words say: a GPU's error, or memory; None for neither."""
    if GPU_WORDS.search(words):
        return "gpu_error"
    return "out_of_memory" if MEMORY_WORDS.search(words) else None


def oom_kills() -> int:
    """Return how many processes the kernel has killed for memory; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
