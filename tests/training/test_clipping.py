"""Gradients are clipped at the stated norm, and the adaptive limit survives resuming."""

import numpy as np
import pytest
import torch
from torch import nn

from datagen.training import clipping
from datagen.training.clipping import GradClipper


def clipped(clipper: GradClipper, gradient: list[float]) -> tuple[float, list[float]]:
    """Return the norm that the clipper saw, and the gradient that it left."""
    parameter = nn.Parameter(torch.zeros(len(gradient)))
    parameter.grad = torch.tensor(gradient)
    norm = clipper.clip([parameter])
    return norm, parameter.grad.tolist()


def test_plain_clipping_scales_long_gradients_to_the_highest_norm():
    clipper = GradClipper(1.0, adaptive=False)
    norm, left = clipped(clipper, [3.0, 4.0])
    assert norm == pytest.approx(5.0)
    assert left == pytest.approx([0.6, 0.8], rel=1e-5)
    assert clipped(clipper, [0.3, 0.4])[1] == pytest.approx([0.3, 0.4])


def test_adaptive_limit_is_the_percentile_of_the_last_norms_once_there_are_enough(monkeypatch):
    monkeypatch.setattr(clipping, "BUFFER", 20)
    clipper = GradClipper(1.0, adaptive=True)
    norms = np.linspace(0.02, 0.40, 20)
    for norm in norms:
        assert clipper.limit == 1.0
        clipped(clipper, [float(norm)])
    assert clipper.limit == pytest.approx(np.percentile(norms, 95), rel=1e-5)
    assert clipped(clipper, [0.9])[1] == pytest.approx([np.percentile(norms, 95)], rel=1e-4)
    for _ in range(20):
        clipped(clipper, [7.0])
    assert clipper.limit == 1.0  # never above the fixed one


def test_norm_that_is_not_finite_is_not_remembered(monkeypatch):
    monkeypatch.setattr(clipping, "BUFFER", 1)
    clipper = GradClipper(1.0, adaptive=True)
    assert np.isnan(clipped(clipper, [np.nan])[0])
    assert clipper.limit == 1.0
    clipped(clipper, [0.5])
    assert clipper.limit == pytest.approx(0.5)


def test_state_goes_on_with_the_same_limit(monkeypatch):
    monkeypatch.setattr(clipping, "BUFFER", 2)
    clipper, other = GradClipper(1.0, adaptive=True), GradClipper(1.0, adaptive=True)
    for norm in (0.2, 0.3):
        clipped(clipper, [norm])
    other.load_state_dict(clipper.state_dict())
    assert other.limit == clipper.limit < 0.3
