"""Arrangement of objects: Poisson-disk sampling, support surfaces, stacking."""

from datagen.layouts.poisson import LayoutResult, sample_layout
from datagen.layouts.support import Support, find_support

__all__ = ["LayoutResult", "Support", "find_support", "sample_layout"]
