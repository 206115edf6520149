"""Sampling from a trained flow model."""

from datagen.sampling.flow_euler import sample_flow

__all__ = ["sample_flow"]
