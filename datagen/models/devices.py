"""Where and how torch runs: its device, its threads, and denormal numbers rounded to zero."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from datagen.errors import ConfigError


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Round denormal numbers to zero within the block, in this thread and torch's worker threads.

    The mode is reset at the end: it holds for all code of the thread, and other libraries check it.
    """
    _ = np.finfo(np.float32), np.finfo(np.float64)  # numpy warns if it first measures them inside
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def torch_device(name: str) -> torch.device:
    """Return the device of a ``--device`` flag.

    Args:
        name: ``auto`` (the GPU if there is one), ``cpu``, ``cuda``, or ``optix`` (the same GPU as
            Cycles names it).

    Raises:
        ConfigError: a GPU is asked for, and torch finds none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "optix":
        name = "cuda"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: torch sees no GPU here. Expected one; use --device auto or cpu, "
            "or install a CUDA build of torch."
        )
    return torch.device(name)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads within the block, with denormal numbers rounded to zero."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with denormals_flushed():
            yield
    finally:
        torch.set_num_threads(before)
