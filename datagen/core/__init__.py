"""Frames, cameras and seeding: pure numpy, importable inside Blender too."""
