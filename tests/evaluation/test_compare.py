"""The rows of a comparison, and what they say about how they were made."""

import pytest

from datagen.evaluation.compare import Comparison, in_one_space
from datagen.evaluation.readers import PREDICTED, ReadScene
from tests.evaluation.readers.files import box


def mesh(size, place):
    made = box(size, place)
    return made.vertices, made.faces


def test_objects_are_aligned_once_more_only_if_asked_for():
    layout = PREDICTED["iscene"]
    assert Comparison().definition(layout).object_aligner == "robust"
    assert Comparison(align_objects=False).definition(layout).object_aligner == "none"
    assert "not aligned once more" in Comparison(align_objects=False).words()


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("iscene", "in the declared range made [−1, 1]; objects in the true object's box"),
        ("gen3dsr", "the units that they come in; objects not scored; F-scores at 0.1, 0.01, 0.00"),
        ("partcrafter", "204800 surface samples of each scene"),
    ],
)
def test_words_name_points_spaces_and_thresholds(protocol, words):
    assert words in Comparison(protocol=protocol).words()


def test_both_sides_are_brought_from_their_ranges_into_one_space():
    truth = ReadScene((mesh(0.2, (0.1, 0.0, 0.3)),))
    vertices, faces = truth.meshes[0]
    prediction = ReadScene(((vertices * 2.01, faces), None))
    predicted, true = in_one_space(
        prediction, PREDICTED["midi"], truth, PREDICTED["datagen"], Comparison()
    )
    assert predicted[1] is None
    assert predicted[0][0] == pytest.approx(true[0][0])
    assert true[0][0] == pytest.approx(vertices * 2)
