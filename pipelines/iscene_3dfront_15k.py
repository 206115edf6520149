"""The 3D-FRONT half of I-Scene's mix "3D-FT + Rand-15K": all training rooms, as they are.

The other half is ``iscene_15k``, in a workspace of its own. ``assets`` and ``layouts`` read the
files of 3D-FRONT as MIDI processed them: ``--source-path`` names their folder.
"""

from dataclasses import replace

from datagen.stages.assets import PrepareAssets
from datagen.stages.given_layouts import TakeLayouts
from datagen.stages.pipeline import load_pipeline

PIPELINE = replace(
    load_pipeline("iscene_15k"),
    assets=PrepareAssets(source="front3d"),
    layouts=TakeLayouts(split="train"),
)
