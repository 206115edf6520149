"""Every pipeline loads, has the stages of its verbs and values that can be fingerprinted."""

import pytest

from datagen.core.fields import deciding_fields
from datagen.errors import ConfigError
from datagen.stages.pipeline import Pipeline, load_pipeline, pipeline_names

NAMES = pipeline_names()
FOLDERS = ["assets", "layouts", "renders", "latents", "model", "predictions", "scores"]


@pytest.mark.parametrize("name", NAMES)
def test_pipeline_gives_every_stage_of_the_pipeline_with_deciding_fields(name):
    pipeline = load_pipeline(name)
    assert isinstance(pipeline, Pipeline)
    stages = [stage for _, stage in pipeline.stages()]
    assert [stage.table.folder for stage in stages] == FOLDERS
    assert all(isinstance(deciding_fields(stage), dict) for stage in stages)


@pytest.mark.parametrize("name, scenes", [("iscene_15k", 15_000), ("iscene_25k", 25_000)])
def test_random_scene_pipelines_have_the_papers_numbers(name, scenes):
    pipeline = load_pipeline(name)
    layouts, render = pipeline.layouts, pipeline.render
    assert (layouts.num_layouts, layouts.min_objects, layouts.max_objects) == (scenes, 2, 12)
    assert (render.num_views, render.resolution_px) == (150, 512)
    assert pipeline.train.config.model == "iscene-L"
    assert (pipeline.train.config.max_steps, pipeline.train.config.lr) == (130_000, 5e-5)
    assert (pipeline.infer.sampler.steps, pipeline.infer.sampler.cfg_strength) == (25, 3.0)


def test_larger_pipeline_differs_in_the_number_of_scenes_alone():
    small, large = (load_pipeline(name) for name in ("iscene_15k", "iscene_25k"))
    differing = {
        (verb, key)
        for (verb, one), (_, other) in zip(small.stages(), large.stages(), strict=True)
        for key, value in deciding_fields(one).items()
        if deciding_fields(other)[key] != value
    }
    assert differing == {("layouts", "num_layouts")}


def test_unknown_pipeline_lists_those_that_there_are():
    with pytest.raises(
        ConfigError, match=r"unknown pipeline 'iscene'.*demo, iscene_15k, iscene_25k"
    ):
        load_pipeline("iscene")
