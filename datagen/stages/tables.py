"""The tables of all stages, in the order of the pipeline."""

from datagen.evaluation.tables import COMPARISON, SCORES
from datagen.shards.declared import INPUTS, SCENES
from datagen.shards.tables import by_folder

TABLES = by_folder((*INPUTS.values(), SCENES, SCORES, COMPARISON))
"""Every table of a workspace, by folder.

Dataset cards, Croissant files, docs/data.md and ``datagen verify`` are based on it.
"""
