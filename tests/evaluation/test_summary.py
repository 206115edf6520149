"""What is written about methods side by side."""

import pytest

from datagen.evaluation.collision import TOLERANCES
from datagen.evaluation.summary import collision_curve, printed_scores, read_published
from datagen.stages.evaluate_files import published_table


def scene(num_predicted, at):
    return {"num_predicted": num_predicted, "num_colliding_at": at}


def test_collision_rates_are_pooled_at_every_tolerance_and_scenes_not_looked_at_do_not_count():
    rows = [
        scene(4, [4, 2, 2, 0, 0, 0, 0]),
        scene(6, [2, 2, 2, 2, 2, 0, 0]),
        scene(9, None),  # too many faces
        scene(0, [0] * 7),  # nothing was predicted
    ]
    curve = collision_curve(rows)
    assert [at.tolerance for at in curve] == list(TOLERANCES)
    assert [at.rates["col_o"] for at in curve] == pytest.approx([0.6, 0.4, 0.4, 0.2, 0.2, 0, 0])
    assert [at.rates["col_s"] for at in curve] == [1, 1, 1, 0.5, 0.5, 0, 0]


def test_collision_curve_of_nothing_is_empty():
    assert collision_curve([scene(9, None)]) == []


@pytest.mark.parametrize(
    ("protocol", "method", "title", "score"),
    [("iscene", "I-Scene", "CD-S", ".0148"), ("scenegen", "SceneGen", "F-S", "90.60")],
)
def test_published_tables_hold_numbers_with_their_source(protocol, method, title, score):
    rows = read_published(published_table(protocol))
    assert next(row[title] for row in rows if row["method"] == method) == score
    for row in rows:
        assert row["source"] and row["test_set"]
        numbers = [float(row[column.title]) for column in printed_scores() if row[column.title]]
        assert numbers and all(0 <= number <= 100 for number in numbers)


def test_protocol_without_a_table_of_its_own_has_i_scenes():
    assert published_table("partcrafter") == published_table("iscene")
