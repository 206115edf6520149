"""Training data, trainer and evaluation for image-to-3D-scene models."""
