"""Gradient clipping, by a fixed norm or also by what norms are usual."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PERCENTILE = 95
BUFFER = 1000
"""TRELLIS's numbers (configs/generation/ss_flow_img_dit_L_16l8_fp16.json)."""


class GradClipper:
    """Scales gradients down to a highest norm.

    With ``adaptive`` the highest norm is TRELLIS's: the ``PERCENTILE``-th percentile of the last
    ``BUFFER`` finite norms as soon as there are so many, and never above ``max_norm``.
    """

    def __init__(self, max_norm: float, *, adaptive: bool) -> None:
        self.max_norm = max_norm
        self._adaptive = adaptive
        self._norms: deque[float] = deque(maxlen=BUFFER)

    @property
    def limit(self) -> float:
        """The norm that the next gradient is scaled down to, where it is larger."""
        if not self._adaptive or len(self._norms) < (self._norms.maxlen or 0):
            return self.max_norm
        return min(self.max_norm, float(np.percentile(np.array(self._norms), PERCENTILE)))

    def clip(self, parameters: Iterable[nn.Parameter]) -> float:
        """Scale the gradients and return the norm that they had; remember it if it is finite."""
        norm: Tensor = nn.utils.clip_grad_norm_(parameters, self.limit)
        value = float(full_value(norm))
        if self._adaptive and np.isfinite(value):
            self._norms.append(value)
        return value

    def state_dict(self) -> dict[str, Any]:
        return {"norms": list(self._norms)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._norms.clear()
        self._norms.extend(state["norms"])


def full_value(tensor: Tensor) -> Tensor:
    """Return a tensor whole, where the processes of FSDP hold a part each."""
    if isinstance(tensor, torch.distributed.tensor.DTensor):
        return tensor.full_tensor()
    return tensor
