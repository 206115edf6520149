"""I-Scene's Rand-25K: ``iscene_15k`` with 25,000 scenes; its first 15,000 are the same ones."""

from dataclasses import replace

from datagen.stages.pipeline import load_pipeline

BASE = load_pipeline("iscene_15k")

PIPELINE = replace(BASE, layouts=replace(BASE.layouts, num_layouts=25_000))
