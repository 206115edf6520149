"""The structured-latent model: it samples features on the occupied voxels of instances."""
