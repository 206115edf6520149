"""Gradient clipping: by a fixed norm, or also by a percentile of recent norms."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PERCENTILE = 95
BUFFER = 1000
"""TRELLIS's values (configs/generation/ss_flow_img_dit_L_16l8_fp16.json)."""


class GradClipper:
    """Scales gradients down to a maximum norm.

    The maximum is ``max_norm``. With ``adaptive``, as in TRELLIS, it is the ``PERCENTILE``-th
    percentile of the last ``BUFFER`` finite norms if that is smaller, once ``BUFFER`` norms are
    known.
    """

    def __init__(self, max_norm: float, *, adaptive: bool) -> None:
        self.max_norm = max_norm
        self._adaptive = adaptive
        self._norms: deque[float] = deque(maxlen=BUFFER)

    @property
    def limit(self) -> float:
        """The maximum norm of the next gradient."""
        if not self._adaptive or len(self._norms) < (self._norms.maxlen or 0):
            return self.max_norm
        return min(self.max_norm, float(np.percentile(np.array(self._norms), PERCENTILE)))

    def clip(self, parameters: Iterable[nn.Parameter]) -> float:
        """Scale the gradients to at most ``limit`` and return their norm before scaling."""
        norm: Tensor = nn.utils.clip_grad_norm_(parameters, self.limit)
        value = float(full_value(norm))
        if self._adaptive and np.isfinite(value):
            self._norms.append(value)
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return the recent norms, to resume from."""
        return {"norms": list(self._norms)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the norms of a ``state_dict``."""
        self._norms.clear()
        self._norms.extend(state["norms"])


def full_value(tensor: Tensor) -> Tensor:
    """Return the full tensor (...) of a value whose parts FSDP may hold in several processes."""
    if isinstance(tensor, torch.distributed.tensor.DTensor):
        return tensor.full_tensor()
    return tensor
