"""Directions on the sphere, cameras, ray-cast visibility, and which views to keep."""
