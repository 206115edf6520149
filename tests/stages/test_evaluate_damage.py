"""The proof through the command: known damage to real shapes comes out with what it implies.

Four procedural objects, the whole rotated by 37° and grown 1.3 times, in a method's own range.
"""

import numpy as np
import pytest
import trimesh

from datagen.assets.procedural.shapes import merge
from datagen.assets.procedural.source import sample_shape
from datagen.cli import main
from datagen.evaluation.readers import PREDICTED
from datagen.shards import open_dataset
from tests.evaluation.readers.files import write

CHAIR, DESK, SOFA, BOOKCASE = 2, 7, 12, 14
PLACES = [(-0.25, -0.3, -0.25), (0.25, -0.3, -0.2), (-0.2, -0.3, 0.25), (0.2, -0.3, 0.2)]
POSE = np.diag([1.3, 1.3, 1.3, 1]) @ trimesh.transformations.rotation_matrix(
    np.radians(37), [0, 1, 0]
)
NOISE = 0.01


def furniture() -> list[trimesh.Trimesh]:
    """Return the true scene, Y up, inside ±0.5: objects of longest side 0.35 on one floor."""
    made = []
    for index, place in zip((CHAIR, DESK, SOFA, BOOKCASE), PLACES, strict=True):
        part = merge(sample_shape(0, index).build())
        vertices = part.vertices[:, [0, 2, 1]] * [1, 1, -1]
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        vertices = (vertices - [(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2]) * 0.35
        vertices = vertices / (high - low).max() + place
        made.append(trimesh.Trimesh(vertices, part.faces, process=False))
    return made


def moved(things: list[trimesh.Trimesh]) -> list[trimesh.Trimesh]:
    things[3].apply_translation((0, 0.4, 0))  # above all others, far from every true object
    return things


def noisy(things: list[trimesh.Trimesh]) -> list[trimesh.Trimesh]:
    rng = np.random.default_rng(0)
    made = []
    for thing in things:
        fine = thing.subdivide_to_size(0.05)
        fine.vertices = fine.vertices + rng.normal(scale=NOISE, size=fine.vertices.shape)
        made.append(fine)
    return made


def f_score(row: dict) -> float:
    """Return the one at τ = 0.1, the first of its columns."""
    return row[next(name for name in row if name.startswith("f_score"))]


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Return the rows of each damage: the scene's, and its objects'."""
    folder = tmp_path_factory.mktemp("damage")
    write(folder / "gt" / "a.glb", *furniture())
    damages = {
        "rotated": furniture(),
        "moved": moved(furniture()),
        "lost": furniture()[:3],
        "noisy": noisy(furniture()),
    }
    for name, things in damages.items():
        write(folder / name / "a.glb", *(thing.apply_transform(POSE) for thing in things))
    words = ["evaluate", "--gt", str(folder / "gt"), "--align", "multistart", "--points", "5000"]
    words += ["--pred", *(f"{name}={folder / name}" for name in damages), "--collision-faces", "0"]
    words += ["--format", *["scenegen"] * len(damages), "--out", str(folder / "out")]
    assert main(words) == 0
    rows: dict[str, list[dict]] = {}
    for row in open_dataset(str(folder / "out")):
        rows.setdefault(row["method"], []).append(row)
    return {name: (found[0], found[1:]) for name, found in rows.items()}


def test_rotated_and_grown_copy_scores_as_the_truth_does_against_itself(scores):
    scene, objects = scores["rotated"]
    assert f_score(scene) == 1.0 and scene["cd"] < 1.2 * scene["cd_floor"]
    assert [f_score(row) for row in objects] == pytest.approx([1.0] * 4, abs=0.002)
    assert min(row["box_iou"] for row in objects) > 0.97 and scene["box_iou"] > 0.97


def test_alignment_undoes_the_pose_and_the_range_that_was_declared(scores):
    unit = 1 / PREDICTED["scenegen"].declared_range[1]  # ±0.98 becomes ±1, the truth's ±0.5 too
    # In the z_up frame, a rotation about Y is a rotation about Z.
    rotated = np.diag([1.0, 1, 1, 1])
    rotated[:3, :3] = trimesh.transformations.rotation_matrix(np.radians(37), [0, 0, 1])[:3, :3]
    expected = np.linalg.inv(np.diag([1.3 * unit] * 3 + [1.0]) @ rotated) @ np.diag([2.0, 2, 2, 1])
    found = np.reshape(scores["rotated"][0]["transform"], (4, 4))
    np.testing.assert_allclose(found[:3, :3], expected[:3, :3], atol=0.01)


def test_one_object_of_four_moved_costs_a_quarter_of_precision_and_of_recall(scores):
    scene, objects = scores["moved"]
    assert f_score(scene) == pytest.approx(3 / 4, abs=0.03)
    assert [row["box_iou"] > 0.9 for row in objects] == [True, True, True, False]
    assert objects[3]["box_iou"] == 0.0
    # This protocol also aligns each object separately: its shape is still right.
    assert min(f_score(row) for row in objects) > 0.99


def test_one_object_of_four_missing_costs_a_quarter_of_recall_alone(scores):
    scene, objects = scores["lost"]
    assert f_score(scene) == pytest.approx(2 * 0.75 / 1.75, abs=0.03)
    assert (scene["num_missing"], scene["num_predicted"]) == (1, 3)
    assert f_score(objects[3]) == 0.0 and min(f_score(row) for row in objects[:3]) > 0.99


def test_noise_adds_its_variance_to_the_squared_distance(scores):
    scene, _ = scores["noisy"]
    added = scene["cd_sq_sum"] - scores["rotated"][0]["cd_sq_sum"]
    variance = (2 * NOISE) ** 2  # in [−1, 1]
    # At most all three axes at every point, both ways. At least half of one axis, one way: points
    # between corners have the mean of three noises, and what is along the surface only slides.
    assert variance / 3 < added < 2 * 3 * variance
    assert f_score(scene) > 0.999
