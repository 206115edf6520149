"""The overlay shows prediction and truth, each at its place and in its colour."""

import numpy as np
import pytest
import trimesh

from datagen.report.overlay import PREDICTED_COLOR, TRUE_COLOR, overlay, overlays

ABOVE = np.array([0.0, 0.0, 1.0])


def mesh_of(x=0.0):
    made = trimesh.creation.box((1.0, 0.4, 0.2))
    return np.asarray(made.vertices) + (x, 0, 0), np.asarray(made.faces)


def triangles(x=0.0):
    vertices, faces = mesh_of(x)
    return vertices[faces]


def hue(pixel):
    """Return the colour of a pixel (4,) without its brightness."""
    return pixel[:3] / np.linalg.norm(pixel[:3].astype(float))


def unit(color):
    return np.array(color) / np.linalg.norm(color)


def test_truth_is_blue_and_pixels_of_both_are_between_the_colours():
    truth = overlay(np.zeros((0, 3, 3)), triangles(), ABOVE, 64)
    assert hue(truth[32, 32]) == pytest.approx(unit(TRUE_COLOR), abs=0.02)
    both = overlay(triangles(), triangles(), ABOVE, 64)
    mean = (np.array(TRUE_COLOR) + PREDICTED_COLOR) / 2
    assert hue(both[32, 32]) == pytest.approx(unit(mean), abs=0.02)
    np.testing.assert_array_equal(both[..., 3] > 0, truth[..., 3] > 0)


def test_prediction_beside_the_truth_is_on_its_own_side():
    drawn = overlay(triangles(1.5), triangles(), ABOVE, 64)
    assert hue(drawn[32, 16]) == pytest.approx(unit(TRUE_COLOR), abs=0.02)
    assert hue(drawn[32, 48]) == pytest.approx(unit(PREDICTED_COLOR), abs=0.02)
    assert drawn[2, 2, 3] == 0


def test_alignment_changes_the_last_two_of_four_images():
    back = np.eye(4)
    back[0, 3] = -1.5
    moved = overlays([mesh_of(1.5), None], [mesh_of()], back, 48)
    at_once = overlays([mesh_of()], [mesh_of()], np.eye(4), 48)
    assert moved[2:] == at_once[2:]
    assert moved[0] != at_once[0] and moved[1] != at_once[1]
    assert "after alignment, from above" in moved[3]


def test_prediction_without_any_surface_shows_the_truth():
    assert len(overlays([None], [mesh_of()], np.eye(4), 48)) == 4
