"""Checks of a workspace: files against manifests, rows against rows, layouts against meshes."""
