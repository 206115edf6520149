"""Flow matching: times, noise, dropped conditions and losses against their formulas."""

import numpy as np
import pytest
import torch

from datagen.core.seeding import rng_for
from datagen.training.config import FlowMatching
from datagen.training.objectives.flow_matching import FlowDraw, draw, noisy_latent
from datagen.training.objectives.structure.losses import flow_losses

SHAPE = torch.Size((2000, 3, 1, 1, 1, 1))


class Velocity:
    """A model whose velocity is a given function; remembers what it was called with."""

    def __init__(self, function):
        self.function = function

    def encode_images(self, images):
        return images.float().mean(dim=(2, 3))[:, :, None]  # one token a grid: its mean colour

    def __call__(self, x, t_times_1000, cond):
        self.t_times_1000, self.cond = t_times_1000, cond
        return self.function(x)


def test_drawn_times_are_sigmoids_of_the_stated_normal():
    drawn = draw(FlowMatching(t_mean=1.0, t_std=0.5), rng_for(0, "t"), SHAPE)
    logit = torch.logit(drawn.t_B.double())
    assert logit.mean() == pytest.approx(1.0, abs=0.05)
    assert logit.std() == pytest.approx(0.5, abs=0.05)


def test_condition_is_dropped_for_the_stated_share_of_samples():
    drawn = draw(FlowMatching(drop_condition=0.1), rng_for(0, "drop"), SHAPE)
    assert drawn.keep_condition_B.shape == (2000,)
    assert 1 - drawn.keep_condition_B.float().mean() == pytest.approx(0.1, abs=0.02)


def test_noise_of_scene_and_instance_is_independent():
    noise = draw(FlowMatching(), rng_for(0, "noise"), SHAPE).noise.squeeze()
    correlation = np.corrcoef(noise.T.numpy())
    np.testing.assert_allclose(correlation, np.eye(3), atol=0.08)


def test_noisy_latent_runs_from_data_to_noise():
    x_0, noise = torch.full((3, 2), 4.0), torch.full((3, 2), -1.0)
    x_t = noisy_latent(x_0, noise, torch.tensor([0.0, 0.5, 1.0]), 0.01)
    # (1 - t)·4 - (0.01 + 0.99·t)
    torch.testing.assert_close(x_t[:, 0], torch.tensor([3.99, 1.495, -1.0]))


def make_draw(t: list[float], keep: list[bool]) -> FlowDraw:
    torch.manual_seed(0)
    return FlowDraw(torch.tensor(t), torch.randn(len(t), 2, 8, 4, 4, 4), torch.tensor(keep))


def test_loss_of_the_true_velocity_is_zero_and_of_a_shifted_one_its_square():
    drawn = make_draw([0.3, 0.9], [True, True])
    x_0, images = torch.randn(2, 2, 8, 4, 4, 4), torch.zeros(2, 2, 4, 4, 3, dtype=torch.uint8)
    flow = FlowMatching(sigma_min=1e-2)
    true = (1 - 1e-2) * drawn.noise - x_0
    exact = flow_losses(flow, Velocity(lambda x: true), x_0, images, drawn).mean()
    shifted = flow_losses(flow, Velocity(lambda x: true + 0.5), x_0, images, drawn).mean()
    assert exact == 0
    assert shifted == pytest.approx(0.25)


def test_time_floor_scales_the_loss_of_small_times_alone():
    drawn = make_draw([0.25, 0.9], [True, True])
    x_0, images = torch.randn(2, 2, 8, 4, 4, 4), torch.zeros(2, 2, 4, 4, 3, dtype=torch.uint8)
    flow = FlowMatching(t_floor=0.5)
    true = (1 - flow.sigma_min) * drawn.noise - x_0
    loss_BG = flow_losses(flow, Velocity(lambda x: true + 1), x_0, images, drawn)
    assert loss_BG.tolist() == [pytest.approx([0.25] * 2), pytest.approx([1.0] * 2)]  # (t / 0.5)²


def test_dropped_condition_is_zero_for_all_grids_of_the_sample():
    drawn = make_draw([0.3, 0.9], [False, True])
    x_0 = torch.randn(2, 2, 8, 4, 4, 4)
    images = torch.full((2, 2, 4, 4, 3), 9, dtype=torch.uint8)
    model = Velocity(lambda x: x)
    flow_losses(FlowMatching(), model, x_0, images, drawn)
    assert not model.cond[0].any()
    assert (model.cond[1] == 9).all()
    torch.testing.assert_close(model.t_times_1000, torch.tensor([300.0, 900.0]))
