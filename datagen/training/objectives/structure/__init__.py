"""The structure model: it samples latents of occupancy grids, of a scene and its instances."""
