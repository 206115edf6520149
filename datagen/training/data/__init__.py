"""The data of a training: sources of views, their order, and the loader."""
