"""The training's settings: the published numbers, identity, and what is refused."""

import dataclasses

import pytest

from datagen.core.fields import deciding_fields
from datagen.errors import ConfigError
from datagen.training import ISCENE_L, FlowMatching, TrainConfig


def test_published_training_has_the_papers_numbers():
    assert ISCENE_L.max_steps == 130_000
    assert ISCENE_L.batch_size == 8 * 8 and ISCENE_L.micro_batch_size == 8
    assert ISCENE_L.lr == 5e-5 and ISCENE_L.weight_decay == 0
    assert ISCENE_L.lr_schedule == "constant" and ISCENE_L.warmup_steps == 0
    assert ISCENE_L.ema_decay == 0.9999 and not ISCENE_L.ema_warmup
    assert ISCENE_L.adaptive_clip and ISCENE_L.grad_clip == 1.0
    assert ISCENE_L.image_encoder == "dinov2_vitl14_reg"
    assert ISCENE_L.precision == "bfloat16" and not ISCENE_L.normalize_latents
    assert ISCENE_L.flow == FlowMatching(
        t_mean=1.0, t_std=1.0, sigma_min=1e-5, t_floor=0.0, drop_condition=0.1
    )


def test_how_a_training_is_run_is_no_part_of_what_it_is():
    other = dataclasses.replace(
        ISCENE_L,
        micro_batch_size=1,
        activation_checkpointing=True,
        compile_blocks=True,
        fsdp=True,
        checkpoint_every=7,
        keep_last=9,
        sample_every=0,
    )
    assert deciding_fields(other) == deciding_fields(ISCENE_L)
    faster = dataclasses.replace(ISCENE_L, flow=FlowMatching(t_mean=0.0))
    assert deciding_fields(faster) != deciding_fields(ISCENE_L)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"keep_last": 0}, "keep_last must be at least 1"),
        ({"micro_batch_size": 0}, "micro_batch_size must be at least 1"),
        ({"sample_every": -1}, "must not be negative"),
    ],
)
def test_numbers_that_cannot_work_are_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        TrainConfig(**fields)
