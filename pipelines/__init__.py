"""Named pipelines: a file holds one as ``PIPELINE``, ``datagen run NAME`` runs it."""
