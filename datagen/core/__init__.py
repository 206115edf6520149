"""Frames, cameras, meshes and seeding in plain numpy; Blender's Python can import it too."""
