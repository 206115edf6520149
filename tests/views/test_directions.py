"""Protects camera directions: unit vectors, evenly distributed, and TRELLIS's own sequence."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.core.seeding import rng_for
from datagen.errors import ConfigError
from datagen.views.directions import sphere_directions

GOLDEN = Path(__file__).parents[1] / "golden" / "trellis_hammersley_150.json"

shares = st.floats(0, 1, exclude_max=True)
methods = st.sampled_from(["hammersley", "fibonacci", "trellis"])


def test_trellis_directions_equal_the_published_sequence():
    golden = json.loads(GOLDEN.read_text())
    yaw, pitch = np.array(golden["yaw_pitch_rad"]).T
    expected = np.column_stack(
        [np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)]
    )

    offset = tuple(golden["offset"])
    found = sphere_directions(golden["num_views"], method="trellis", offset=offset)

    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(num_views=st.integers(1, 300), method=methods, offset=st.tuples(shares, shares))
def test_directions_of_any_kind_are_unit_vectors(num_views, method, offset):
    directions = sphere_directions(num_views, method=method, offset=offset)

    assert directions.shape == (num_views, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("method", ["hammersley", "fibonacci"])
@given(offset=st.tuples(shares, shares))
def test_uniform_methods_give_equal_bands_equal_numbers(method, offset):
    z = sphere_directions(150, method=method, offset=offset)[:, 2]

    counts, _ = np.histogram(z, bins=np.linspace(-1, 1, 16))  # 15 bands of equal area

    assert counts.min() >= 9 and counts.max() <= 11, counts


@pytest.mark.parametrize("method", ["hammersley", "fibonacci"])
def test_uniform_methods_fill_every_cap_by_its_area(method):
    """Any cap, not only about the up axis: the sequence has no gap and no cluster."""
    rng = rng_for(0, "caps", method)
    directions = sphere_directions(600, method=method)
    axes = rng.normal(size=(500, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    cosines = rng.uniform(-0.9, 0.9, size=500)

    share = (directions @ axes.T > cosines).mean(axis=0)

    assert np.abs(share - (1 - cosines) / 2).max() < 0.025  # 600 random ones: about 0.06


def test_trellis_directions_put_three_quarters_above_the_horizon():
    z = sphere_directions(150, method="trellis")[:, 2]

    assert ((z < 0).sum(), (z >= 0).sum()) == (38, 112)


@pytest.mark.parametrize(
    ("num_views", "method", "words"), [(0, "hammersley", "num_views"), (8, "spiral", "spiral")]
)
def test_bad_argument_is_a_config_error_that_names_the_value(num_views, method, words):
    with pytest.raises(ConfigError, match=words):
        sphere_directions(num_views, method=method)
