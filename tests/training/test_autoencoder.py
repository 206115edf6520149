"""Training the small autoencoder: its data, the files it writes, and resuming after a stop."""

import numpy as np
import pytest
import torch
import trimesh

from datagen.core.seeding import rng_for
from datagen.errors import DatasetError
from datagen.models import load_model
from datagen.training.embedded import autoencoder
from datagen.training.embedded.random_voxels import (
    find_geometry,
    is_held_out,
    read_geometry,
    sample_object,
    sample_random_scene,
)


@pytest.fixture()
def assets(tmp_path):
    """An assets folder with three objects that stand on the ground."""
    geometry = tmp_path / "assets" / "geometry"
    geometry.mkdir(parents=True)
    for name, size in (("aa", (1, 1, 1)), ("bb", (0.5, 1.5, 0.1)), ("cc", (0.2, 0.2, 2))):
        box = trimesh.creation.box(size)
        vertices = (box.vertices + np.array([0, 0, size[2] / 2])).astype(np.float32)
        np.savez(geometry / f"{name}.npz", vertices=vertices, faces=box.faces.astype(np.int32))
    return tmp_path / "assets"


def config(assets, out, **changes):
    tiny = {"channels": 16, "num_blocks": 2, "scenes_per_step": 1, "objects_per_step": 1}
    return autoencoder.TrainAutoencoder(assets=(assets,), out=out, **{**tiny, **changes})


def test_folder_without_geometry_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="datagen assets"):
        find_geometry([tmp_path])


def test_a_tenth_of_the_names_is_held_out_by_name_alone(tmp_path):
    paths = [tmp_path / f"{number:x}.npz" for number in range(3000)]
    held_out = [is_held_out(path) for path in paths]
    assert 0.08 < np.mean(held_out) < 0.12
    assert held_out == [is_held_out(path.parent / "elsewhere" / path.name) for path in paths]


def test_object_alone_fills_the_box(assets):
    [grid] = sample_object(find_geometry([assets])[2], rng_for(0, "test"))
    # 2 m high and the tallest side: every layer from the floor to the top is occupied.
    assert grid.any(axis=(0, 1)).all()


def test_scene_is_the_union_of_2_to_12_objects_on_one_floor(assets):
    paths = find_geometry([assets])
    for index in range(10):
        scene, *objects = sample_random_scene(paths, rng_for(0, "test", index))
        assert 2 <= len(objects) <= 12
        np.testing.assert_array_equal(scene, np.any(objects, axis=0))
        floor = np.nonzero(scene)[2].min()
        assert all(np.nonzero(grid)[2].min() == floor for grid in objects)


def test_same_stream_gives_the_same_scene(assets):
    paths = find_geometry([assets])
    read_geometry.cache_clear()
    first = sample_random_scene(paths, rng_for(5, "test"))
    np.testing.assert_array_equal(sample_random_scene(paths, rng_for(5, "test")), first)


def test_loss_falls_to_near_zero_for_a_network_that_is_right(assets, tmp_path):
    model = autoencoder.Autoencoder(config(assets, tmp_path))
    grids = torch.zeros(1, 1, 64, 64, 64, dtype=torch.bool)
    grids[:, :, 4:8, 4:8, 4:8] = True
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(0)
    losses = []
    for _ in range(30):
        loss, _ = model.loss(grids.expand(2, -1, -1, -1, -1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_training_leaves_weights_that_load_and_goes_on_where_it_stopped(assets, tmp_path):
    out = tmp_path / "weights"
    autoencoder.train(config(assets, out, minutes=0.02))
    first = torch.load(out / "checkpoint.pt", weights_only=True)
    encoder = load_model(out / "small_ss_enc", device="cpu")
    decoder = load_model(out / "small_ss_dec", device="cpu")
    assert decoder(encoder(torch.zeros(1, 1, 64, 64, 64))).shape == (1, 1, 64, 64, 64)

    more_s = first["elapsed_s"] + 1.0  # whatever a step takes on a busy machine
    autoencoder.train(config(assets, out, minutes=more_s / 60))
    second = torch.load(out / "checkpoint.pt", weights_only=True)
    assert second["step"] > first["step"]
    assert second["elapsed_s"] >= more_s


def test_finished_training_is_left_alone(assets, tmp_path):
    out = tmp_path / "weights"
    autoencoder.train(config(assets, out, minutes=0.01))
    before = (out / "small_ss_enc.safetensors").read_bytes()
    autoencoder.train(config(assets, out, minutes=0.01))
    assert (out / "small_ss_enc.safetensors").read_bytes() == before
