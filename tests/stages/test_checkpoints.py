"""Weights with the name of a published file are compared with it."""

import logging

import pytest

from datagen.errors import DatasetError
from datagen.models import build_model, find_checkpoint, find_scene_model
from datagen.models.initial_weights import load_initial
from datagen.models.named_checkpoints import PUBLISHED_SHA256, check_published, resolve_checkpoint

FILE = "ss_enc_conv3d_16l8_fp16.safetensors"
HUB_ID = "microsoft/TRELLIS-image-large/ckpts/ss_enc_conv3d_16l8_fp16"


def test_published_bytes_pass_in_silence(caplog):
    with caplog.at_level(logging.WARNING):
        check_published(HUB_ID, FILE, PUBLISHED_SHA256[FILE])
        check_published("my/own_encoder", "own_encoder.safetensors", "0" * 64)
    assert not caplog.records


def test_other_bytes_from_the_published_repository_are_refused():
    with pytest.raises(DatasetError, match="expected the published 107874ee"):
        check_published(HUB_ID, FILE, "0" * 64)


def test_other_bytes_under_the_published_name_are_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        check_published("my/ss_enc_conv3d_16l8_fp16", FILE, "0" * 64)
    assert "differs from the published file of that name" in caplog.text


def test_embedded_scene_model_fits_the_small_model_and_its_place():
    path = resolve_checkpoint("small", "model")
    assert find_scene_model(path).kind == "trained"
    assert find_checkpoint(path)[1].stat().st_size <= 16e6
    model = build_model("small", seed=0)
    assert load_initial(model, path), "the normalisation of the latents comes along"
    assert model.latent_std.min() > 0
    assert all(parameter.isfinite().all() for parameter in model.parameters())
