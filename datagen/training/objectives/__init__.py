"""The objectives: samples, batches and losses of each of the two models."""
