"""Protects lights: reproducible per scene, within their ranges, scaled with the scene."""

from pathlib import Path

import numpy as np
import pytest

from datagen.core.seeding import rng_for
from datagen.views.lights import (
    RANDOM_FILLS,
    RANDOM_KEY_ELEVATION_DEG,
    RANDOM_KEY_IRRADIANCE,
    STUDIO,
    build_light,
    sample_light,
    trellis_light,
)

CUBE = np.array([[-1.0, -1, 0], [1, 1, 2]])


@pytest.mark.parametrize("name", ["trellis", "random", "hdri"])
def test_light_depends_on_the_scene_and_its_random_stream_alone(name):
    skies = [Path(f"{index}.hdr") for index in range(5)]

    first, again, other = (
        build_light(name, CUBE, rng_for(0, "render", layout_id, "light"), skies)
        for layout_id in (7, 7, 8)
    )

    assert first == again
    assert (first == other) == (name == "trellis")


def test_studio_is_the_same_for_every_scene():
    assert build_light("studio", CUBE * 9, rng_for(3), []) is STUDIO


def test_all_skies_are_drawn_at_all_rotations():
    skies = [Path(f"{index}.hdr") for index in range(3)]

    lights = [build_light("hdri", CUBE, rng_for(0, index), skies) for index in range(60)]

    assert {light.hdri for light in lights} == set(skies)
    rotations = np.array([light.hdri_rotation_rad for light in lights])
    assert set((rotations // (np.pi / 2)).astype(int)) == {0, 1, 2, 3}


def test_random_light_has_a_key_from_above_and_some_fills_in_their_ranges():
    lights = [sample_light(rng_for(0, index)) for index in range(200)]

    keys = [light.lamps[0] for light in lights]
    elevations = np.degrees(np.arcsin([key.to_lamp[2] for key in keys]))
    low, high = RANDOM_KEY_ELEVATION_DEG
    assert low <= elevations.min() < low + 5 and high - 5 < elevations.max() <= high
    assert all(low <= key.power <= high for key in keys for low, high in [RANDOM_KEY_IRRADIANCE])
    fewest, most = RANDOM_FILLS
    assert {len(light.lamps) - 1 for light in lights} == set(range(fewest, most + 1))
    for light in lights:
        for lamp in light.lamps:
            assert np.linalg.norm(lamp.to_lamp) == pytest.approx(1)


def test_trellis_lamps_are_the_published_ones_about_a_unit_scene_and_scale_with_it():
    unit = trellis_light(np.zeros(3), 1.0)
    large = trellis_light(np.array([1.0, 2.0, 3.0]), 4.0)

    assert [(lamp.kind, lamp.power, lamp.position_m) for lamp in unit.lamps] == [
        ("POINT", 1000, (4, 1, 6)),
        ("AREA", 10_000, (0, 0, 10)),
        ("AREA", 1000, (0, 0, -10)),
    ]
    assert [lamp.size for lamp in unit.lamps] == [0, 100, 1]
    for small, scaled in zip(unit.lamps, large.lamps, strict=True):
        assert scaled.power == 16 * small.power  # at four times the distance
        np.testing.assert_allclose(
            scaled.position_m, np.array([1, 2, 3]) + 4 * np.array(small.position_m)
        )
