"""Sampling from trained flow models, and the files of sampled scenes."""

from datagen.sampling.flow_euler import sample_flow

__all__ = ["sample_flow"]
