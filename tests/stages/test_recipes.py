"""Every recipe loads, has the stages of its verbs and values that can be fingerprinted."""

import pytest

from datagen.errors import ConfigError
from datagen.stages.recipe import Recipe, load_recipe, recipes_folder
from datagen.stages.stage import stable_fields

NAMES = sorted(path.stem for path in recipes_folder().glob("*.py"))
FOLDERS = ["assets", "layouts", "renders", "latents", "model", "predictions", "scores"]


@pytest.mark.parametrize("name", NAMES)
def test_recipe_gives_every_stage_of_the_pipeline_with_stable_fields(name):
    recipe = load_recipe(name)
    assert isinstance(recipe, Recipe)
    stages = [stage for _, stage in recipe.stages()]
    assert [stage.folder for stage in stages] == FOLDERS
    assert all(isinstance(stable_fields(stage), dict) for stage in stages)


@pytest.mark.parametrize("name, scenes", [("iscene_15k", 15_000), ("iscene_25k", 25_000)])
def test_random_scene_recipes_have_the_papers_numbers(name, scenes):
    recipe = load_recipe(name)
    layouts, render = recipe.layouts, recipe.render
    assert (layouts.num_layouts, layouts.min_objects, layouts.max_objects) == (scenes, 2, 12)
    assert (render.num_views, render.resolution_px) == (150, 512)
    assert recipe.train.config.model == "iscene-L"
    assert (recipe.train.config.max_steps, recipe.train.config.lr) == (130_000, 5e-5)
    assert (recipe.infer.sampler.steps, recipe.infer.sampler.cfg_strength) == (25, 3.0)


def test_larger_recipe_differs_in_the_number_of_scenes_alone():
    small, large = (load_recipe(name) for name in ("iscene_15k", "iscene_25k"))
    differing = {
        (verb, key)
        for (verb, one), (_, other) in zip(small.stages(), large.stages(), strict=True)
        for key, value in stable_fields(one).items()
        if stable_fields(other)[key] != value
    }
    assert differing == {("layouts", "num_layouts")}


def test_unknown_recipe_lists_those_that_there_are():
    with pytest.raises(ConfigError, match=r"unknown recipe 'iscene'.*demo, iscene_15k, iscene_25k"):
        load_recipe("iscene")
