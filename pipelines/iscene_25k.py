"""I-Scene's Rand-25K: ``iscene_15k`` with 25,000 scenes; its first 15,000 are the same ones."""

from dataclasses import replace

from datagen.stages.recipe import load_recipe

BASE = load_recipe("iscene_15k")

RECIPE = replace(BASE, layouts=replace(BASE.layouts, num_layouts=25_000))
