"""Numbers too small to matter, which x86 computes a hundred times slower."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Round denormal numbers to zero within the block, in this thread and torch's own.

    A processor's mode belongs to the whole thread, so it is given back: other libraries check it.
    """
    _ = np.finfo(np.float32), np.finfo(np.float64)  # numpy warns if it first measures them inside
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
