"""Choosing items from sequences."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most ``count`` items at evenly spaced positions, the first and the last included.

    Args:
        items: any sequence; returned whole if it has at most ``count`` items.
        count: at least 0; 1 gives the first item.
    """
    if len(items) <= count:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int)]
