"""The Euler sampler gives the recorded samples; its times, guidance and interval."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from datagen.sampling import sample_flow
from datagen.sampling.flow_euler import noise_times

GOLDEN = Path(__file__).parents[1] / "golden"
ALWAYS = (0.0, 1.0)


def toy_velocity(x, t_times_1000, cond):
    """The closed-form velocity that sampler_toy.json states."""
    t = (t_times_1000 / 1000).reshape(-1, 1, 1, 1, 1)
    return 0.3 * x + 0.7 * t - 0.9 * cond.mean(dim=(1, 2)).reshape(-1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("run", "options"),
    [
        ("cfg", {"cfg_interval": ALWAYS, "rescale_t": 1.0}),
        ("cfg_rescale", {"cfg_interval": ALWAYS}),
        ("interval", {}),
    ],
)
def test_toy_velocity_gives_golden_samples(run, options):
    io = load_file(GOLDEN / "sampler_toy_io.safetensors")
    neg_cond = torch.zeros_like(io["cond"])
    sample = sample_flow(toy_velocity, io["noise"], io["cond"], neg_cond, **options)
    torch.testing.assert_close(sample, io[run], rtol=1e-4, atol=1e-5)


def test_straight_flow_arrives_at_its_data_in_any_number_of_steps():
    torch.manual_seed(0)
    noise, x_0 = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    for steps in (1, 7):
        sample = sample_flow(
            lambda x, t, cond: noise - cond, noise, x_0, x_0, steps=steps, cfg_strength=3.0
        )
        torch.testing.assert_close(sample, x_0, rtol=1e-4, atol=1e-4)


def test_unguided_interval_calls_the_model_without_the_negative_condition():
    calls = []

    def model(x, t_times_1000, cond):
        calls.append((round(float(t_times_1000[0])), float(cond[0])))
        return torch.zeros_like(x)

    sample_flow(model, torch.zeros(1, 1), torch.ones(1), torch.zeros(1), steps=4, rescale_t=1.0)
    assert calls == [(1000, 1), (1000, 0), (750, 1), (750, 0), (500, 1), (500, 0), (250, 1)]


def test_rescaled_times_run_from_one_to_zero_and_are_finer_near_noise():
    times = noise_times(25, 3.0)
    gaps = -(times[1:] - times[:-1])
    assert times[0] == 1.0
    assert times[-1] == 0.0
    assert (gaps > 0).all()
    assert (gaps[1:] > gaps[:-1]).all()
    assert times[20] == pytest.approx(3 * 0.2 / 1.4)
