"""Protects evenly spaced samples: they include the first and the last item of a list."""

import pytest

from datagen.core.sequences import evenly_spaced


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [(0, 3, []), (3, 3, [0, 1, 2]), (7, 3, [0, 3, 6]), (100, 2, [0, 99]), (5, 1, [0])],
)
def test_first_last_and_even_steps_between_are_chosen(length, count, expected):
    assert evenly_spaced(list(range(length)), count) == expected
