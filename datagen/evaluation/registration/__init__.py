"""Alignment of predicted scenes with true ones: robust ICP, references, published ICPs."""
