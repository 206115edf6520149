"""The structured-latent model: features on the occupied voxels of instances."""
