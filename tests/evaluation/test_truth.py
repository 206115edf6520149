"""True scenes of a workspace stand in the frame of the view that they are named after."""

import shutil

import numpy as np
import pytest

from datagen.errors import DatasetError, RowError
from datagen.evaluation.truth import WorkspaceTruth
from datagen.shards import open_dataset
from tests.shards.tiny import BOX, FACES


@pytest.fixture
def root(tiny):
    return tiny


def test_meshes_of_a_view_are_the_placed_assets_in_its_canonical_frame(root):
    [layout] = open_dataset(root / "layouts").rows_of(0)  # its placements are not rotated
    [latent] = open_dataset(root / "latents").rows_of(0, view_index=1)
    meshes = WorkspaceTruth(root).read("0_1").meshes
    assert len(meshes) == len(layout["placements"])
    matrix = latent["world_to_canonical"]
    for (vertices, faces), placement in zip(meshes, layout["placements"], strict=True):
        world = BOX + placement["position_m"]
        expected = world @ matrix[:3, :3].T + matrix[:3, 3]
        np.testing.assert_allclose(vertices, expected, atol=1e-12)
        np.testing.assert_array_equal(faces, FACES)


@pytest.mark.parametrize("scene_id", ["0_2", "99_0", "room"])
def test_scene_that_is_no_encoded_view_is_a_failed_row(root, scene_id):
    with pytest.raises(RowError, match=f"scene {scene_id}: "):
        WorkspaceTruth(root).read(scene_id)


def test_workspace_without_latents_names_the_command(root, tmp_path):
    for name in ("assets", "layouts"):
        shutil.copytree(root / name, tmp_path / name)
    with pytest.raises(DatasetError, match=r"--gt .*latents is missing.*Run `datagen encode"):
        WorkspaceTruth(tmp_path)
