"""``infer``: the scenes it samples, and the settings it refuses."""

import pytest

from datagen.cli import main
from datagen.errors import ConfigError
from datagen.sampling.scenes import SamplerConfig
from datagen.stages.infer import InferScenes


def test_published_model_takes_the_place_of_the_workspaces():
    assert InferScenes().input_names() == ("renders", "latents", "model")
    assert InferScenes(model="owner/repository").input_names() == ("renders", "latents")


def test_every_scene_is_unseen_by_a_published_model():
    class Latents:
        def units(self) -> list[int]:
            return [3, 1, 2]

    assert InferScenes(model="owner/repository").held_out({"latents": Latents()}) == {1, 2, 3}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_encoder": "dinov2_vitl14_reg"}, "the workspace's model knows its encoder"),
        ({"max_scenes": 0}, "max_scenes must be at least 1"),
        ({"max_batch": 0}, "max_batch must be at least 1"),
        ({"sampler": SamplerConfig(steps=0)}, "steps must be at least 1"),
    ],
)
def test_field_that_cannot_work_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        InferScenes(**fields)


def test_help_says_that_image_files_can_be_given(capsys):
    with pytest.raises(SystemExit):
        main(["infer", "--help"])
    assert "with --image and --masks, from image files." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["infer", "--image", "a.png", "--masks", "b.png", "--help"])
    assert "--out" in capsys.readouterr().out
