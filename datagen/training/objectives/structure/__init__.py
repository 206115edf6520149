"""The structure model: latents of occupancy grids, of a scene and its instances."""
