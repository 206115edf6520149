"""Objects built from parameters: no download, no license question, always at hand."""

from datagen.assets.procedural.source import KINDS, ProceduralSource

__all__ = ["KINDS", "ProceduralSource"]
