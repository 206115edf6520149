"""The embedded model is the trained one in half precision."""

import pytest
import torch

from datagen.errors import ConfigError
from datagen.models import build_model, load_model, save_model
from datagen.models.scene_model import model_args
from datagen.training.embedded.embed import Embed, embed


def test_embedded_model_is_the_trained_one_in_half_precision(tmp_path):
    model = build_model("small", 0, low_rank_mean=False)
    save_model(model, tmp_path / "model", model_args("small", low_rank_mean=False))
    size = embed(Embed(model=str(tmp_path / "model"), out=tmp_path / "small"))
    assert size <= 16e6
    found = load_model(tmp_path / "small", device="cpu").state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[name], tensor.half().float(), rtol=0, atol=0)


def test_model_that_knows_views_by_heart_is_not_embedded(tmp_path):
    save_model(build_model("small", 0), tmp_path / "model", model_args("small"))
    with pytest.raises(ConfigError, match="--no-low-rank-mean"):
        embed(Embed(model=str(tmp_path / "model"), out=tmp_path / "small"))
