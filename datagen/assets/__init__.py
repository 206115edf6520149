"""Assets: their sources, imported objects, and licenses."""
