"""What training reads: sources of views, their order, and the loader."""
