"""The tables of all stages, by folder, in the order of the pipeline."""

from datagen.evaluation.tables import COMPARISON, SCORES
from datagen.shards.declared import INPUTS, SCENES
from datagen.shards.tables import by_folder

TABLES = by_folder((*INPUTS.values(), SCENES, SCORES, COMPARISON))
"""What a workspace may hold; cards, Croissant files, docs/data.md and ``verify`` are made of it."""
