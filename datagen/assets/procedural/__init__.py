"""Procedural objects: meshes built from sampled parameters, in the public domain."""

from datagen.assets.procedural.source import KINDS, ProceduralSource

__all__ = ["KINDS", "ProceduralSource"]
