"""Views of a scene: directions, cameras, lights, ray-cast visibility, and which views are kept."""
