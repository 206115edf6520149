"""The command line: flags as typed choose stages and defaults, and wrong ones are named."""

import pytest

from datagen.cli import COMMANDS, STAGE_VERBS, main, parse
from datagen.errors import ConfigError
from datagen.stages.evaluate import EvaluateScenes
from datagen.stages.evaluate_files import EvaluateFiles
from datagen.stages.given_layouts import TakeLayouts
from datagen.stages.infer import InferScenes
from datagen.stages.infer_images import InferImages
from datagen.stages.layouts import SampleLayouts


def chosen(line: str):
    return parse(line.split()).chosen()


@pytest.mark.parametrize("equals", [" ", "="])
def test_layouts_source_takes_rooms_however_it_is_spelled(equals):
    assert chosen("layouts") == SampleLayouts()
    assert chosen("layouts --n 7 --split val") == SampleLayouts(num_layouts=7, split="val")
    rooms = chosen(f"layouts --source{equals}front3d --source-path rooms --n 3")
    assert rooms == TakeLayouts(source_path=rooms.source_path, num_layouts=3)


def test_infer_image_and_evaluate_pred_choose_their_stages():
    assert isinstance(chosen("infer --max-scenes 2"), InferScenes)
    images = chosen("infer --image=a.png --masks=b.png --steps 3")
    assert isinstance(images, InferImages) and images.sampler.steps == 3
    assert chosen("evaluate --aligned-points 64") == EvaluateScenes(aligned_points=64)
    files = chosen("evaluate --pred a=x b=y --gt z --align none --seed 4")
    assert isinstance(files, EvaluateFiles) and files.pred == ("a=x", "b=y")
    assert (files.comparison.align, files.comparison.seed) == ("none", 4)
    assert (files.comparison.collision_faces, files.scenes_per_shard) == (500_000, 64)
    assert (chosen("evaluate").collision_faces, chosen("evaluate").scenes_per_shard) == (200_000, 8)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("layouts --source-path rooms", "--source-path goes with --source front3d"),
        ("layouts --source front3d --max-objects 3", "--max-objects goes with random scenes"),
        ("infer --masks m.png", "--masks goes with --image"),
        ("infer --image a.png --masks m.png --split all", "--split goes with rendered views"),
        ("evaluate --protocol midi", "--protocol goes with --pred"),
        ("evaluate --pred a=x --aligned-points 9", "--aligned-points goes with sampled scenes"),
    ],
)
def test_flag_of_the_stage_that_was_not_chosen_is_refused(line, words):
    with pytest.raises(ConfigError, match=words):
        chosen(line)


@pytest.mark.parametrize("equals", [" ", "="])
def test_pipeline_and_model_give_the_other_flags_their_defaults(equals):
    assert chosen(f"layouts --pipeline{equals}iscene_15k").num_layouts == 15_000
    large = chosen(f"layouts --pipeline{equals}iscene_15k --n 4")
    assert (large.num_layouts, large.split) == (4, "train")
    trained = chosen(f"train --model{equals}iscene-L --max-steps 5").config
    assert (trained.model, trained.max_steps, trained.ema_decay) == ("iscene-L", 5, 0.9999)
    encoder = chosen("train --pipeline iscene_25k --image-encoder mine").config
    assert (encoder.image_encoder, encoder.max_steps) == ("mine", 130_000)


def test_every_flag_of_both_stages_is_in_the_help(capsys):
    for verb, flags in (
        ("layouts", ("--source", "--leave-out-unusable", "--max-objects", "--workers")),
        ("infer", ("--image", "--masks", "--views-per-scene", "--cfg-strength")),
        ("evaluate", ("--pred", "--gt-format", "--protocol", "--aligned-points", "--root")),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([verb, "--help"])
        assert stopped.value.code == 0
        text = capsys.readouterr().out
        assert all(flag in text for flag in flags)


@pytest.mark.slow
def test_completion_of_a_shell_knows_every_command_and_its_flags(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--tyro-print-completion", "bash"])
    assert not stopped.value.code
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    assert "--num-views" in script and "--allow-absent" in script


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["paint"], "unknown command 'paint'. Expected one of assets, layouts, render"),
        (["plan", "paint"], f"VERB is one of {', '.join(STAGE_VERBS)}"),
        (["run"], "no pipeline given. Expected `datagen run PIPELINE`"),
        (["run", "nothing"], "unknown pipeline 'nothing'"),
    ],
)
def test_unknown_words_are_one_line_that_says_what_is_expected(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err
